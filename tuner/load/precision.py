"""How precisely a running level knows the metric it is stopped by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sessions.clock import NS_PER_S
from sessions.metrics import request_values
from sessions.requests import RequestStatus
from tuner.load.live import BUCKET_NS, SETTLE_S
from tuner.load.rounds import rounds_interval
from tuner.load.steady import Interval, batch_interval, warmup_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sessions.requests import RequestTable
    from tuner.load.spec import StopRule

_BUCKETED = {
    "output_token_throughput": "tokens",
    "total_token_throughput": "tokens",
    "request_throughput": "requests",
    "goodput": "requests",
}
"""Rates, and what is counted per time bucket to judge them."""

_PER_REQUEST = ("ttft", "tpot", "e2e", "itl")
"""Latencies that every request has."""


def judged_by(metric: str) -> str:
    """The metric whose interval is told for a metric: its own, or that of the output tokens, which most others follow."""
    return metric if metric in _BUCKETED or metric in _PER_REQUEST else "output_token_throughput"


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Where the precision stands.

    Attributes:
        interval: The interval of the steady part.
        steady_ns: Session time from which on the series is steady; None if it is not.
    """

    interval: Interval
    steady_ns: int | None


def read_precision(
    rule: StopRule,
    table: RequestTable,
    bucket_tokens: dict[int, int],
    base_monotonic_ns: int,
    from_ns: int,
    now_ns: int,
    rounds_ns: NDArray[np.int64] | None = None,
) -> Reading:
    """The interval of the stop rule's metric between two moments.

    Rates are judged by what arrived per bucket of 25 ms, or per round of a closed loop once there are enough of them; latencies by
    the requests in the order of their end. Other metrics are judged by the output token throughput.

    Args:
        rule: Says which metric and statistic.
        table: All requests of the level that have ended.
        bucket_tokens: Tokens by bucket of the monotonic clock.
        base_monotonic_ns: Monotonic time of session time 0.
        from_ns: Session time at which the warm-up ended at the earliest.
        now_ns: Session time now.
        rounds_ns: Session times at which the rounds of a closed loop ended; None: there are none.
    """
    inside = (table.end_ns > from_ns) & (table.status == RequestStatus.OK)
    values: NDArray[np.float64]
    if rule.metric in _PER_REQUEST:
        good = table.select(inside)
        order = np.argsort(good.end_ns, kind="stable")
        raw = request_values(good)
        column = {"ttft": raw.ttft_ms, "tpot": raw.tpot_ms, "e2e": raw.e2e_ms, "itl": raw.itl_avg_ms}[rule.metric][
            order
        ]
        known = ~np.isnan(column)
        values, times_ns = column[known], good.end_ns[order][known]
        stat, rounds_ns = rule.stat, None
    else:
        first = (from_ns + base_monotonic_ns) // BUCKET_NS + 1
        last = (now_ns + base_monotonic_ns - int(SETTLE_S * NS_PER_S)) // BUCKET_NS
        buckets = np.arange(first, max(last, first))
        times_ns = buckets * BUCKET_NS - base_monotonic_ns
        if _BUCKETED.get(rule.metric) == "requests":
            edges = np.append(times_ns, times_ns[-1] + BUCKET_NS) if times_ns.size else np.empty(0)
            counted = np.histogram(table.end_ns[inside], edges)[0] if edges.size else np.empty(0)
            values = counted.astype(np.float64)
        else:
            values = np.array([bucket_tokens.get(int(bucket), 0) for bucket in buckets], dtype=np.float64)
        stat = "avg"  # of a rate, and of what is judged by one
    cut = warmup_length(values)
    if cut is None:
        return Reading(batch_interval(values, stat), None)
    steady_ns = int(times_ns[cut]) if cut else from_ns
    interval = batch_interval(values[cut:], stat)
    if rounds_ns is not None:
        edges = (rounds_ns - times_ns[cut]) / BUCKET_NS
        rounds = rounds_interval(values[cut:], edges[(edges >= 0) & (edges <= len(values) - cut)])
        interval = rounds if rounds.batches else interval
    return Reading(interval, steady_ns)
