"""The formulas: every latency, throughput and ratio that trtune shows comes from here, computed from raw requests.

Percentiles are taken over all values, never over buckets. docs/metrics.md says what each name means, which clock it
uses, and how other tools' numbers of the same name differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sessions.clock import NS_PER_MS, NS_PER_S
from sessions.requests import ABSENT, RequestStatus, RequestTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from sessions.slo import Slo

Summary = dict[str, dict[str, float]]
"""Metric name to statistic to value; scalars have `avg` only."""

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
STATS = ("avg", "min", "max", "std", *(f"p{rank}" for rank in PERCENTILES), "count")
"""Statistics of a distribution; `std` is that of the values themselves (divided by n)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is.

    Attributes:
        unit: As shown.
        better: Which way is better; None where neither is.
        distribution: Whether it has one value per request or token (all of STATS), or one per window (`avg` only).
        help: One line.
    """

    unit: str
    better: Literal["lower", "higher"] | None
    distribution: bool
    help: str


METRICS: dict[str, Metric] = {
    "ttft": Metric(
        "ms",
        "lower",
        True,
        "time to first token: from sending (open loop: from the scheduled time) to the first chunk with a token",
    ),
    "itl": Metric(
        "ms",
        "lower",
        True,
        "inter-token latency: gaps between tokens; a chunk of k tokens counts as k gaps of 1/k of its gap",
    ),
    "icl": Metric(
        "ms", "lower", True, "inter-chunk latency: gaps between chunks as they arrive, however many tokens they hold"
    ),
    "tpot": Metric(
        "ms", "lower", True, "time per output token of a request: (last - first chunk) / tokens after the first chunk"
    ),
    "e2e": Metric(
        "ms", "lower", True, "end-to-end latency: from sending (open loop: from the scheduled time) to the last token"
    ),
    "isl": Metric("tokens", None, True, "input sequence length as the server counted it, else as planned"),
    "osl": Metric("tokens", None, True, "output sequence length as the server counted it, else chunks with text"),
    "cached_tokens": Metric("tokens", "higher", True, "prompt tokens found in the server's prefix cache"),
    "output_token_throughput_per_user": Metric("tokens/s", "higher", True, "1 / TPOT of each request"),
    "schedule_lag": Metric("ms", "lower", True, "how late a request left (open loop)"),
    "client_lag": Metric("ms", "lower", True, "from the kernel's stamp of the first token to the moment it was read"),
    "output_token_throughput": Metric(
        "tokens/s", "higher", False, "output tokens that arrived in the window, per second"
    ),
    "input_token_throughput": Metric(
        "tokens/s", "higher", False, "prompt tokens of requests that ended in the window, per second"
    ),
    "total_token_throughput": Metric("tokens/s", "higher", False, "input and output token throughput together"),
    "request_throughput": Metric("requests/s", "higher", False, "requests that ended well in the window, per second"),
    "goodput": Metric(
        "requests/s", "higher", False, "requests that ended well in the window and met every SLO, per second"
    ),
    "goodput_ratio": Metric(
        "ratio", "higher", False, "share of ended requests that met every SLO; failures count as not met"
    ),
    "sent_rate": Metric("requests/s", None, False, "requests sent in the window, per second"),
    "concurrency": Metric("requests", None, False, "requests in flight, averaged over the window"),
    "error_ratio": Metric("ratio", "lower", False, "failed requests / (good + failed)"),
    "cancelled_ratio": Metric("ratio", None, False, "requests given up by the client as the workload says / all ended"),
    "doubtful_gap_ratio": Metric(
        "ratio",
        "lower",
        False,
        "gaps of unknown length (one read held several events), left out of ITL and ICL / all gaps",
    ),
    "doubtful_ttft_ratio": Metric(
        "ratio", "lower", False, "requests whose first tokens came in one late read, left out of TTFT / all good"
    ),
    "gpus": Metric("GPUs", "lower", False, "GPUs that the configuration uses"),
    "output_token_throughput_per_gpu": Metric("tokens/s", "higher", False, "output token throughput / GPUs used"),
    "total_token_throughput_per_gpu": Metric("tokens/s", "higher", False, "total token throughput / GPUs used"),
    "goodput_per_gpu": Metric("requests/s", "higher", False, "goodput / GPUs used"),
    "gpu_power": Metric("W", "lower", False, "power of the GPUs used, all together, averaged over the window"),
    "energy_per_output_token": Metric("J", "lower", False, "energy of the GPUs used in the window / output tokens"),
    "cost_per_million_output_tokens": Metric(
        "$", "lower", False, "price of the GPUs used for the time that a million output tokens take"
    ),
    "cost_per_million_total_tokens": Metric(
        "$", "lower", False, "the same for a million tokens, prompts and answers together"
    ),
    "window": Metric("s", None, False, "length of the measuring window"),
    "requests": Metric("requests", None, False, "requests that ended well in the window"),
}
"""Every metric by name."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestValues:
    """Per-request values of a table, NaN where a request has none.

    Attributes:
        ttft_ms: Time to first token; where one read held the first tokens it is the time of the last of them, an upper bound.
        ttft_certain: False for those.
        tpot_ms: Time per output token.
        e2e_ms: End-to-end latency.
        itl_avg_ms: Mean of the request's certain token gaps.
        tokens_per_s: 1 / TPOT.
    """

    ttft_ms: NDArray[np.float64]
    ttft_certain: NDArray[np.bool_]
    tpot_ms: NDArray[np.float64]
    e2e_ms: NDArray[np.float64]
    itl_avg_ms: NDArray[np.float64]
    tokens_per_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """Gaps between the chunks of all rows of a table.

    Attributes:
        row: Row of each gap.
        gap_ms: Length.
        tokens: Tokens in the chunk that ended it.
        certain: False where one read held several events, so that the length is unknown.
    """

    row: NDArray[np.int64]
    gap_ms: NDArray[np.float64]
    tokens: NDArray[np.int64]
    certain: NDArray[np.bool_]


def summarise(table: RequestTable, window_start_ns: int, window_end_ns: int, slos: Sequence[Slo] = ()) -> Summary:
    """All metrics of a window.

    A request counts when it *ended* in the window (start excluded, end included): each has one end, so in a steady
    state every length of request is represented as it occurs, and what was still in flight at the end distorts
    nothing. Output tokens count when they *arrived* in it. Latencies are those of requests that ended well; the others
    are in `error_ratio` and against goodput.

    Args:
        table: Requests of a level, in any order.
        window_start_ns: Session time at which the window opens.
        window_end_ns: Session time at which it closes.
        slos: Limits each request must meet to count for goodput.

    Returns:
        Statistics by metric. A metric without any value is missing.
    """
    window_s = (window_end_ns - window_start_ns) / NS_PER_S
    if window_s <= 0:
        return {}
    ended = table.select((table.end_ns > window_start_ns) & (table.end_ns <= window_end_ns))
    good = ended.select(ended.status == RequestStatus.OK)
    values = request_values(good)
    gaps = chunk_gaps(good)
    sure = gaps.gap_ms[gaps.certain]
    weights = gaps.tokens[gaps.certain]
    open_loop = good.scheduled_ns != good.sent_ns
    distributions = {
        "ttft": values.ttft_ms[values.ttft_certain],
        "itl": np.repeat(sure / np.maximum(weights, 1), weights),
        "icl": sure,
        "tpot": values.tpot_ms,
        "e2e": values.e2e_ms,
        "isl": _known(good.isl_tokens),
        "osl": _known(good.osl_tokens),
        "cached_tokens": _known(good.cached_tokens),
        "output_token_throughput_per_user": values.tokens_per_s,
        "schedule_lag": ((good.sent_ns - good.scheduled_ns) / NS_PER_MS)[open_loop],
        "client_lag": _known(good.lag_first_us) / 1000,
    }
    summary = {name: statistics for name, data in distributions.items() if (statistics := describe(data))}
    for name, value in _scalars(table, ended, good, values, gaps, window_start_ns, window_end_ns).items():
        summary[name] = {"avg": value}
    if slos and len(ended):
        met = int(np.count_nonzero(meets(values, slos)))
        summary["goodput"] = {"avg": met / window_s}
        summary["goodput_ratio"] = {"avg": met / len(ended)}
    return summary


def describe(values: NDArray[Any]) -> dict[str, float]:
    """Statistics of all values that are not NaN; empty if there is none. Percentiles are interpolated linearly."""
    data = np.asarray(values, dtype=np.float64)
    data = data[~np.isnan(data)]
    if not data.size:
        return {}
    ranks = np.percentile(data, PERCENTILES)
    return {
        "avg": float(data.mean()),
        "min": float(data.min()),
        "max": float(data.max()),
        "std": float(data.std()),
        **{f"p{rank}": float(value) for rank, value in zip(PERCENTILES, ranks, strict=True)},
        "count": float(data.size),
    }


def request_values(table: RequestTable) -> RequestValues:
    """The values of each request; see METRICS for the definitions."""
    offsets = table.chunk_offsets()[:-1]
    has_tokens = (table.first_ns != ABSENT) & (table.chunks > 0)
    several = has_tokens & (table.chunks > 1)
    ttft_certain = np.ones(len(table), dtype=np.bool_)
    ttft_certain[several] = table.chunk_us[offsets[several]] != table.chunk_us[offsets[several] + 1]
    first_tokens = np.zeros(len(table), dtype=np.int64)
    first_tokens[has_tokens] = table.chunk_tokens[offsets[has_tokens]]
    later_tokens = table.osl_tokens - first_tokens
    with np.errstate(divide="ignore", invalid="ignore"):
        ttft_ms = np.where(has_tokens, (table.first_ns - table.scheduled_ns) / NS_PER_MS, np.nan)
        e2e_ms = np.where(has_tokens, (table.last_ns - table.scheduled_ns) / NS_PER_MS, np.nan)
        decode_ms = (table.last_ns - table.first_ns) / NS_PER_MS
        tpot_ms = np.where(has_tokens & (later_tokens > 0) & (decode_ms > 0), decode_ms / later_tokens, np.nan)
        gaps = chunk_gaps(table)
        total_ms = np.bincount(gaps.row, np.where(gaps.certain, gaps.gap_ms, 0.0), minlength=len(table))
        tokens = np.bincount(gaps.row, np.where(gaps.certain, gaps.tokens, 0), minlength=len(table))
        itl_avg_ms = np.where(tokens > 0, total_ms / tokens, np.nan)
        return RequestValues(ttft_ms, ttft_certain, tpot_ms, e2e_ms, itl_avg_ms, 1000 / tpot_ms)


def chunk_gaps(table: RequestTable) -> Gaps:
    """Gaps between neighbouring chunks of the same request.

    Chunks of one read carry the same time; how they were spaced is unknown, and so is the gap before the first of them.
    """
    rows = np.repeat(np.arange(len(table)), table.chunks)
    times_us = table.chunk_us.astype(np.int64)
    inside = rows[1:] == rows[:-1]
    same = inside & (times_us[1:] == times_us[:-1])
    same_as_next = np.append(same[1:], False) if same.size else same
    gap_ms = np.diff(times_us) / 1000
    return Gaps(
        row=rows[1:][inside],
        gap_ms=gap_ms[inside],
        tokens=table.chunk_tokens[1:][inside].astype(np.int64),
        certain=~(same | same_as_next)[inside],
    )


_PER_REQUEST: Mapping[str, Callable[[RequestValues], NDArray[np.float64]]] = {
    "ttft": lambda values: values.ttft_ms,
    "tpot": lambda values: values.tpot_ms,
    "e2e": lambda values: values.e2e_ms,
    "itl": lambda values: values.itl_avg_ms,
    "output_token_throughput_per_user": lambda values: values.tokens_per_s,
}
"""Metrics of which a single request has one value, and that value."""


def slos_of_requests(slos: Sequence[Slo]) -> tuple[Slo, ...]:
    """The SLOs that a single request meets or does not, whatever their statistic."""
    return tuple(slo for slo in slos if slo.metric in _PER_REQUEST)


def meets(values: RequestValues, slos: Sequence[Slo]) -> NDArray[np.bool_]:
    """Which requests meet every SLO that can be judged per request; a request without the value does not."""
    met = np.ones(len(values.ttft_ms), dtype=np.bool_)
    for slo in slos_of_requests(slos):
        met &= slo.compare(_PER_REQUEST[slo.metric](values))
    return met


def _scalars(
    table: RequestTable,
    ended: RequestTable,
    good: RequestTable,
    values: RequestValues,
    gaps: Gaps,
    window_start_ns: int,
    window_end_ns: int,
) -> dict[str, float]:
    """Metrics that have one value per window; `values` and `gaps` are those of the good requests."""
    window_s = (window_end_ns - window_start_ns) / NS_PER_S
    cancelled = int(np.count_nonzero(ended.status == RequestStatus.CANCELLED))
    judged = len(ended) - cancelled
    output_rate = _tokens_arrived(table, window_start_ns, window_end_ns) / window_s
    input_rate = float(np.maximum(good.isl_tokens, 0).sum()) / window_s
    overlap_ns = np.minimum(table.end_ns, window_end_ns) - np.maximum(table.sent_ns, window_start_ns)
    sent = int(np.count_nonzero((table.sent_ns >= window_start_ns) & (table.sent_ns < window_end_ns)))
    scalars = {
        "output_token_throughput": output_rate,
        "input_token_throughput": input_rate,
        "total_token_throughput": output_rate + input_rate,
        "request_throughput": len(good) / window_s,
        "sent_rate": sent / window_s,
        "concurrency": float(np.maximum(overlap_ns, 0).sum()) / NS_PER_S / window_s,
        "window": window_s,
        "requests": float(len(good)),
    }
    if judged:
        scalars["error_ratio"] = (judged - len(good)) / judged
    if len(ended):
        scalars["cancelled_ratio"] = cancelled / len(ended)
    if len(good):
        scalars["doubtful_ttft_ratio"] = float(np.mean(~values.ttft_certain))
    if gaps.certain.size:
        scalars["doubtful_gap_ratio"] = float(np.mean(~gaps.certain))
    return scalars


def _tokens_arrived(table: RequestTable, window_start_ns: int, window_end_ns: int) -> int:
    """Output tokens that arrived in the window, of requests that did not fail."""
    delivered = (table.status == RequestStatus.OK) | (table.status == RequestStatus.CANCELLED)
    arrived_ns = np.repeat(table.sent_ns, table.chunks) + table.chunk_us.astype(np.int64) * 1000
    counted = (arrived_ns > window_start_ns) & (arrived_ns <= window_end_ns) & np.repeat(delivered, table.chunks)
    return int(table.chunk_tokens[counted].sum(dtype=np.int64))


def _known(values: NDArray[Any]) -> NDArray[np.float64]:
    known: NDArray[np.float64] = values[values != ABSENT].astype(np.float64)
    return known
