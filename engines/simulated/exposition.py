"""Prometheus text written by hand: cheap counting on the hot path, and the exact spelling each server has."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Labels = dict[str, str]


def label_text(labels: Labels) -> str:
    """Return labels between braces, sorted by name; nothing without labels."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels.items())) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def head(name: str, kind: str, help_text: str) -> Iterator[str]:
    """Yield a family's two comment lines."""
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


class Histogram:
    """Counts observations by bucket."""

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self._bounds = buckets
        self._texts = [*(str(bound) for bound in buckets), "+Inf"]
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, as often as it occurred."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """Yield the series of one set of labels: buckets, count, sum."""
        total = 0
        for bound, count in zip(self._texts, self._counts, strict=True):
            total += count
            yield f"{name}_bucket{label_text({**labels, 'le': bound})} {float(total)}"
        yield f"{name}_count{label_text(labels)} {float(total)}"
        yield f"{name}_sum{label_text(labels)} {self._sum}"
