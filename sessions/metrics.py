"""The formulas: every latency, throughput and ratio that trtune shows comes from here, computed from raw requests.

Percentiles are taken over all values, never over buckets. docs/metrics.md says what each name means, which clock it
uses, and how other tools' numbers of the same name differ.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sessions.clock import NS_PER_MS, NS_PER_S
from sessions.errors import SessionError
from sessions.requests import ABSENT, RequestStatus, RequestTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

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
    "window": Metric("s", None, False, "length of the measuring window"),
    "requests": Metric("requests", None, False, "requests that ended well in the window"),
}
"""Every metric by name."""


class BadSlo(SessionError):
    """An SLO cannot be understood; the text says what is wrong and what is allowed."""


EACH = "each"
"""Statistic of an SLO that every single request must meet; such an SLO limits goodput, not the level."""

_OPERATORS: dict[str, Any] = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
_OPERATOR_WORDS = {"le": "<=", "lt": "<", "ge": ">=", "gt": ">"}
_OTHER_NAMES = {
    "time_to_first_token": "ttft",
    "inter_token_latency": "itl",
    "inter_chunk_latency": "icl",
    "time_per_output_token": "tpot",
    "request_latency": "e2e",
    "e2el": "e2e",
    "input_sequence_length": "isl",
    "output_sequence_length": "osl",
    "good_request_fraction": "goodput_ratio",
}
"""AIPerf's tags, and `e2el` of `vllm bench`, for the same things."""

_SHORT_FORM = re.compile(
    r"(?P<metric>[a-z_0-9]+?)(?:_(?P<stat>avg|min|max|std|p[0-9]{1,2}|each))?(?:_(?P<unit>ms|s|ratio|tokens|tps|rps))?"
)
_UNIT_FACTORS = {"ms": {"ms": 1.0, "s": 1000.0}}


@dataclass(frozen=True, slots=True)
class Slo:
    """A limit a result must meet to count.

    Attributes:
        metric: Name in METRICS.
        stat: One of STATS, or `each` for a limit on every single request.
        op: `<=`, `<`, `>=` or `>`.
        value: In the metric's unit.
    """

    metric: str
    stat: str
    op: str
    value: float

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise BadSlo(f"SLO on {self.metric!r}: no such metric; known are {', '.join(METRICS)}")
        stats = (*STATS, EACH) if METRICS[self.metric].distribution else ("avg",)
        if self.stat not in stats:
            raise BadSlo(f"SLO on {self.metric}: statistic {self.stat!r} must be one of {', '.join(stats)}")
        if self.op not in _OPERATORS:
            raise BadSlo(f"SLO on {self.metric}: {self.op!r} must be one of {', '.join(_OPERATORS)}")
        if not np.isfinite(self.value):
            raise BadSlo(f"SLO on {self.metric}: the limit must be a number")

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Read `metric:stat:op:value`, as AIPerf's `--search-sla` writes it, or `metric:value` as its `--goodput` does.

        Metrics may have our names or AIPerf's tags, operators may be signs or words (`le`, `lt`, `ge`, `gt`).

        Raises:
            BadSlo: If it is neither.
        """
        parts = [part.strip() for part in text.split(":")]
        if len(parts) not in (2, 4):
            raise BadSlo(f"SLO {text!r}: write metric:stat:op:value, for example ttft:p99:<=:500")
        metric = _OTHER_NAMES.get(parts[0], parts[0])
        value = _number(parts[-1], text)
        if len(parts) == 2:
            return cls._with_usual_operator(metric, None, value)
        return cls(metric, parts[1], _OPERATOR_WORDS.get(parts[2].lower(), parts[2]), value)

    @classmethod
    def from_field(cls, name: str, value: Any) -> Slo:
        """Read a line of a plan: `ttft_p99_ms = 500`, `itl_each_ms = 50`, `error_ratio = 0.01`.

        Without a statistic it is that of every request (`each`) for latencies, and the value itself for scalars. The
        operator is the side on which the metric is worse.

        Raises:
            BadSlo: If the name is no metric with a statistic, or the value no number.
        """
        metric, stat, unit = _split_field(name)
        factor = 1.0
        if unit:
            own = METRICS[metric].unit
            factor = _UNIT_FACTORS.get(own, {}).get(unit, 1.0 if _same_unit(unit, own) else float("nan"))
        if isinstance(value, bool) or not isinstance(value, int | float) or np.isnan(factor):
            raise BadSlo(f"SLO {name}: a number in {METRICS[metric].unit} is needed, not {value!r:.40}")
        return cls._with_usual_operator(metric, stat, value * factor)

    @classmethod
    def _with_usual_operator(cls, metric: str, stat: str | None, value: float) -> Slo:
        known = METRICS.get(metric)
        if known is None:
            return cls(metric, "avg", "<=", value)
        usual_stat = EACH if known.distribution else "avg"
        return cls(metric, stat or usual_stat, ">=" if known.better == "higher" else "<=", value)

    def compare(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which values meet the limit; NaN does not."""
        met: NDArray[np.bool_] = _OPERATORS[self.op](values, self.value)
        return met

    def holds(self, summary: Mapping[str, Mapping[str, float]]) -> bool | None:
        """Whether a window meets the limit; None when it says nothing about it (no such value, or a limit on each request)."""
        value = summary.get(self.metric, {}).get(self.stat)
        return None if value is None else bool(_OPERATORS[self.op](value, self.value))

    def __str__(self) -> str:
        stat = "" if self.stat == "avg" and not METRICS[self.metric].distribution else f" {self.stat}"
        return f"{self.metric}{stat} {self.op} {self.value:g} {METRICS[self.metric].unit}"


def _split_field(name: str) -> tuple[str, str | None, str | None]:
    whole = _OTHER_NAMES.get(name, name)
    if whole in METRICS:
        return whole, None, None
    match = _SHORT_FORM.fullmatch(name)
    metric = _OTHER_NAMES.get(match["metric"], match["metric"]) if match else name
    if match is None or metric not in METRICS:
        raise BadSlo(f"SLO {name}: no such metric; write for example ttft_p99_ms, tpot_avg_ms, error_ratio")
    return metric, match["stat"], match["unit"]


def _same_unit(written: str, own: str) -> bool:
    return {"tps": "tokens/s", "rps": "requests/s"}.get(written, written) == own


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadSlo(f"SLO {where!r}: {text!r} is no number") from None


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
    for name, value in _scalars(table, ended, good, gaps, window_start_ns, window_end_ns).items():
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


def meets(values: RequestValues, slos: Sequence[Slo]) -> NDArray[np.bool_]:
    """Which requests meet every SLO that can be judged per request; a request without the value does not."""
    per_request: Mapping[str, NDArray[np.float64]] = {
        "ttft": values.ttft_ms,
        "tpot": values.tpot_ms,
        "e2e": values.e2e_ms,
        "itl": values.itl_avg_ms,
        "output_token_throughput_per_user": values.tokens_per_s,
    }
    met = np.ones(len(values.ttft_ms), dtype=np.bool_)
    for slo in slos:
        if slo.metric in per_request:
            met &= slo.compare(per_request[slo.metric])
    return met


def _scalars(
    table: RequestTable, ended: RequestTable, good: RequestTable, gaps: Gaps, window_start_ns: int, window_end_ns: int
) -> dict[str, float]:
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
        scalars["doubtful_ttft_ratio"] = float(np.mean(~request_values(good).ttft_certain))
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
