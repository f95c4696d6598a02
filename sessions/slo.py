"""SLOs: limits a result must meet to count, as plans and command lines write them."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sessions.errors import SessionError
from sessions.json_values import listed, mapping, number
from sessions.metrics import METRICS, STATS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class BadSlo(SessionError):
    """An SLO cannot be understood; the text says what is wrong and what is allowed."""


EACH = "each"
"""Statistic of an SLO that every single request must meet; such an SLO limits goodput, not the level."""

_OPERATORS: dict[str, Any] = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
_OPERATOR_WORDS = {"le": "<=", "lt": "<", "ge": ">=", "gt": ">"}
_OTHER_NAMES = {
    "time_to_first_token": "ttft",
    "inter_token_latency": "tpot",
    "inter_chunk_latency": "icl",
    "time_per_output_token": "tpot",
    "request_latency": "e2e",
    "e2el": "e2e",
    "input_sequence_length": "isl",
    "output_sequence_length": "osl",
    "good_request_fraction": "goodput_ratio",
}
"""AIPerf's tags, and `e2el` of `vllm bench`, for the same things; its inter-token latency is the mean of a request."""


def metric_name(name: str) -> str:
    """Our name of a metric that may have been written as AIPerf or `vllm bench` call it; others stay as they are."""
    return _OTHER_NAMES.get(name, name)


_SHORT_FORM = re.compile(
    r"(?P<metric>[a-z_0-9]+?)(?:_(?P<stat>avg|min|max|std|p[0-9]{1,2}|each))?(?:_(?P<unit>ms|s|ratio|tokens|tps|rps))?"
)
_UNIT_FACTORS = {"ms": {"ms": 1.0, "s": 1000.0}, "s": {"s": 1.0, "ms": 0.001}}


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
        metric = metric_name(parts[0])
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
        metric, stat, unit = split_field(name)
        factor = unit_factor(metric, unit) if unit else 1.0
        if isinstance(value, bool) or not isinstance(value, int | float) or factor is None:
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


def slos_of(objective: Mapping[str, Any]) -> list[Slo]:
    """The SLOs of an objective as a session keeps it; a stranger's limit that is none of ours limits nothing."""
    found = []
    for told in map(mapping, listed(objective.get("slos"))):
        try:
            metric, stat, op = (str(told.get(key)) for key in ("metric", "stat", "op"))
            found.append(Slo(metric, stat, op, number(told.get("value"))))
        except BadSlo:
            continue
    return found


def unit_factor(metric: str, unit: str) -> float | None:
    """What a number in a unit is multiplied by to be in the metric's own; None when the metric has no such unit."""
    own = METRICS[metric].unit
    same = {"tps": "tokens/s", "rps": "requests/s"}.get(unit, unit) == own
    return _UNIT_FACTORS.get(own, {}).get(unit, 1.0 if same else None)


def split_field(name: str) -> tuple[str, str | None, str | None]:
    """Metric, statistic and unit of a name such as `ttft_p99_ms`; None for what it does not say.

    Raises:
        BadSlo: If there is no such metric.
    """
    whole = _OTHER_NAMES.get(name, name)
    if whole in METRICS:
        return whole, None, None
    match = _SHORT_FORM.fullmatch(name)
    metric = _OTHER_NAMES.get(match["metric"], match["metric"]) if match else name
    if match is None or metric not in METRICS:
        raise BadSlo(f"SLO {name}: no such metric; write for example ttft_p99_ms, tpot_avg_ms, error_ratio")
    return metric, match["stat"], match["unit"]


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadSlo(f"SLO {where!r}: {text!r} is no number") from None
