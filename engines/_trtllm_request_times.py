"""Where the time of finished requests went, by what TensorRT-LLM tells (contract trtllm 3.1 and 4.6)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engines._page_metrics import LatencySplit, Split, SplitNames
from engines._trtllm_records import number
from engines.sample import NAN

if TYPE_CHECKING:
    from collections.abc import Iterable


def _both(name: str) -> tuple[str, str]:
    """A name with the prefix that came with 1.3, and without."""
    return f"trtllm_{name}", name


SPLIT = SplitNames(
    queue=_both("request_queue_time_seconds"),
    first_token=_both("time_to_first_token_seconds"),
    whole=_both("e2e_request_latency_seconds"),
    prefill=_both("request_prefill_time_seconds"),
    decode=_both("request_decode_time_seconds"),
    per_finished=True,
)
"""1.1 and 1.2 have the first three only."""


def page_split() -> LatencySplit:
    """A reader of the Prometheus page's histograms."""
    return LatencySplit(SPLIT)


def split_of_records(records: Iterable[object]) -> Split:
    """Means over records of `/perf_metrics`; its clock is steady, so only differences mean anything.

    What is no record, or has times that run backwards, is left out.
    """
    parts: dict[str, list[float]] = {"queue_ms": [], "prefill_ms": [], "decode_ms": []}
    for record in records:
        metrics = record.get("perf_metrics") if isinstance(record, dict) else None
        timing = metrics.get("timing_metrics") if isinstance(metrics, dict) else None
        moments = [
            number(timing, key)
            for key in ("arrival_time", "first_scheduled_time", "first_token_time", "last_token_time")
        ]
        for name, before, after in zip(parts, moments, moments[1:], strict=False):
            if after >= before:
                parts[name].append((after - before) * 1000.0)
    return Split(**{name: math.fsum(values) / len(values) if values else NAN for name, values in parts.items()})
