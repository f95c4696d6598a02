"""Reads Prometheus text that is not trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 2.0**62
"""Values beyond it are no measurement: NVIDIA's tools write huge integers for «not to be had»."""

MOST_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Series:
    """One sample of a page."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Page:
    """A metrics page: series by name, in page order. Values are finite; others were dropped."""

    series: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)

    def total(self, *names: str) -> float:
        """Sum over all series of the first name that is there; NaN when none is."""
        for name in names:
            if found := self.series.get(name):
                return math.fsum(sample.value for sample in found)
        return math.nan

    def largest(self, *names: str) -> float:
        """Largest value among the series of the first name that is there; NaN when none is.

        For gauges: Prometheus' multiprocess mode writes one series for each process.
        """
        for name in names:
            if found := self.series.get(name):
                return max(sample.value for sample in found)
        return math.nan

    def labels(self, *names: str) -> Mapping[str, str]:
        """Labels of the first series of the first name that is there."""
        return next((self.series[name][0].labels for name in names if name in self.series), {})


def whole_label(text: str) -> int:
    """A label that is a whole number.

    Raises:
        ValueError: If it is none, or larger than any setting is.
    """
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{len(text)} characters are no setting")
    return int(text)


def parse_page(text: str, where: str) -> Page:
    """Parse a page. Series keep the names they have on it: the parser adds `_total` to counters that lack it.

    Raises:
        EngineError: If it is not Prometheus text.
    """
    series: dict[str, list[Series]] = {}
    try:
        for family in text_string_to_metric_families(text):
            added = "_total" if family.type == "counter" and f"{family.name}_total" not in text else ""
            for sample in family.samples:
                if math.isfinite(sample.value) and abs(sample.value) <= LARGEST:
                    series.setdefault(sample.name.removesuffix(added), []).append(Series(sample.labels, sample.value))
    except (ValueError, IndexError, KeyError) as error:
        raise EngineError(f"{where} answers with something that is not Prometheus text") from error
    return Page({name: tuple(found) for name, found in series.items()})
