"""Conditions on a comparison, for scripts: `ttft_p99 > +5%`, `output_token_throughput < -3%`, `tpot_p99 > 25`.

With a sign the number is a change against the first side, as a share with `%` or in the metric's unit; without one it is a limit on
the value itself.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sessions.comparison import SCORED
from sessions.errors import BadCondition, SessionError
from sessions.metrics import METRICS, STATS
from sessions.slo import BadSlo, split_field, unit_factor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sessions.comparison import Change, Comparison, Estimate, LoadComparison

_FORM = re.compile(
    r"\s*(?P<name>[a-z0-9_]+)\s*(?P<op><=|>=|<|>)\s*(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|ms|s)?\s*"
    r"(?:at\s+(?P<load>\d+(?:\.\d+)?))?\s*"
)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What a condition came to at one load, for one side.

    Attributes:
        condition: As it was written.
        side: Name of the side.
        load: The load in words.
        holds: Whether the condition holds; with significance wanted, whether the whole interval is beyond the limit.
        text: What was found, in words.
    """

    condition: str
    side: str
    load: str
    holds: bool
    text: str


@dataclass(frozen=True, slots=True)
class FailIf:
    """A condition under which a comparison fails.

    Attributes:
        text: As it was written.
        metric: Name of the metric.
        stat: Statistic of it.
        op: `>`, `>=`, `<` or `<=`.
        limit: The number; a change in per cent as a share.
        kind: `relative` or `absolute` change, or `value`.
        load: The load it is about; None: every one compared.
    """

    text: str
    metric: str
    stat: str
    op: str
    limit: float
    kind: str
    load: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailIf:
        """Read a condition.

        Raises:
            BadCondition: If it is none.
        """
        match = _FORM.fullmatch(text)
        how = "write for example 'ttft_p99 > +5%', 'output_token_throughput < -3%' or 'tpot_p99 > 25'"
        if match is None:
            raise BadCondition(f"condition {text!r} cannot be read: {how}")
        try:
            metric, stat, unit = split_field(match["name"])
        except BadSlo as error:
            raise BadCondition(f"condition {text!r}: {error}") from error
        stats = STATS if METRICS[metric].distribution else ("avg",)
        stat = stat or "avg"
        if stat not in stats:
            raise BadCondition(f"condition {text!r}: of {metric} there is {', '.join(stats)}, and no {stat}")
        number = float(match["number"]) * (-1 if match["sign"] == "-" else 1)
        told = match["unit"] or unit
        if told == "%" and not match["sign"]:
            raise BadCondition(f"condition {text!r}: a change needs its sign, as in +5% or -5%")
        if told == "%":
            return cls(text, metric, stat, match["op"], number / 100, "relative", _load(match["load"]))
        factor = unit_factor(metric, told) if told else 1.0
        if factor is None:
            raise BadCondition(f"condition {text!r}: {metric} is in {METRICS[metric].unit}, not in {told}")
        number *= factor
        kind = "absolute" if match["sign"] else "value"
        return cls(text, metric, stat, match["op"], number, kind, _load(match["load"]))

    def judge(self, told: Comparison, *, significant: bool = False) -> list[Finding]:
        """Where the condition holds and where not, at every load and for every side but the first.

        Args:
            told: The comparison; it must hold the metric.
            significant: Whether only what is beyond the limit with its whole interval counts.

        Raises:
            SessionError: If some side has the metric at no load in question: what is not known cannot pass.
        """
        found = [finding for load, row in told.metric(self.metric, self.stat) if self._is_about(load)
                 for finding in self._at(told, load, row.estimates, row.changes, significant=significant)]  # fmt: skip
        known = {finding.side for finding in found}
        unknown = [side.name for side in told.sides[1:] if side.name not in known]
        if unknown:
            where = "" if self.load is None else f" at load {self.load:g}"
            both = f"{told.sides[0].name} and {unknown[0]}"
            raise SessionError(
                f"condition {self.text!r}: {self.metric} {self.stat} was not measured on both {both}{where}"
            )
        return found

    def _is_about(self, load: LoadComparison) -> bool:
        return self.load is None or (load.kind != SCORED and load.values[0] == self.load)

    def _at(
        self,
        told: Comparison,
        load: LoadComparison,
        estimates: tuple[Estimate | None, ...],
        changes: tuple[Change | None, ...],
        *,
        significant: bool,
    ) -> Iterator[Finding]:
        for side, estimate, change in zip(told.sides[1:], estimates[1:], changes[1:], strict=True):
            values = self._values(estimates[0], estimate, change)
            if values is None:
                continue
            value, low, high = values
            nearest = low if self.op in (">", ">=") else high
            holds = _OPERATORS[self.op](value, self.limit)
            if significant:
                holds = holds and nearest is not None and _OPERATORS[self.op](nearest, self.limit)
            yield Finding(self.text, side.name, load.label, holds, self._words(value, low, high))

    def _values(
        self, first: Estimate | None, estimate: Estimate | None, change: Change | None
    ) -> tuple[float, float | None, float | None] | None:
        """What the limit is held against, with its interval."""
        if self.kind == "value":
            return None if estimate is None else (estimate.value, estimate.low, estimate.high)
        if change is None:
            return None
        if self.kind == "relative":
            return None if change.relative is None else (change.relative, change.low, change.high)
        if first is None or change.low is None or change.high is None:
            return change.absolute, None, None
        scale = 1.0 if change.relative is None else first.value
        return change.absolute, change.low * scale, change.high * scale

    def _words(self, value: float, low: float | None, high: float | None) -> str:
        def shown(number: float) -> str:
            return (
                f"{number:+.1%}" if self.kind == "relative" else f"{number:{'+' if self.kind == 'absolute' else ''}.4g}"
            )

        interval = "" if low is None or high is None else f", 95 % interval {shown(low)} to {shown(high)}"
        name = self.metric if self.stat == "avg" else f"{self.metric} {self.stat}"
        return f"{name} {shown(value)}{interval}"


def _load(text: str | None) -> float | None:
    return None if text is None else float(text)
