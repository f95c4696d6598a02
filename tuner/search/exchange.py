"""What a search hands out and takes back: proposals, results, and in the end a recommendation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.search.objective import score_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.records import Metrics, Params
    from tuner.search.objective import Objective

BASELINE, SEARCH, ENQUEUED = "baseline", "search", "enqueued"
"""Kinds of proposals: the server's defaults or what was found running; the search's own; an operator's."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration to try.

    Attributes:
        id: Number of the trial in the Optuna study.
        kind: `baseline`, `search` or `enqueued`.
        params: The whole configuration; a knob that is not named keeps the server's default.
        levels: Loads to measure it at, lightest first; empty when the workload is unknown.
        expected_level: The load at which the prior expects its best result within the SLOs; None without a prior.
    """

    id: int
    kind: str
    params: Params
    levels: tuple[float, ...] = ()
    expected_level: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a proposal.

    Attributes:
        value: The objective; None when there is none.
        violation: How far the worst-broken SLO is from its limit, as a share of it; 0 when all are met.
        passed_gate: What the quality gate said; None when it was not asked.
        reason: Why there is no value, in words.
        accused: Knobs that are to blame, most likely first.
        infeasible: Without a value: whether the configuration is to blame, and not a passing trouble.
    """

    value: float | None
    violation: float = 0.0
    passed_gate: bool | None = None
    reason: str = ""
    accused: tuple[str, ...] = ()
    infeasible: bool = True

    @classmethod
    def of_levels(
        cls, objective: Objective, levels: Sequence[Metrics | None], passed_gate: bool | None = None
    ) -> Result:
        """The result of measured levels: the best one within the SLOs, or the one that breaks them least.

        Args:
            objective: What counts as better.
            levels: Metrics of each level; None for an invalid one.
            passed_gate: What the quality gate said.
        """
        score = score_levels(objective, levels)
        reason = "" if score.value is not None else "no level gave a result"
        return cls(score.value, score.violation, passed_gate, reason, infeasible=False)

    @classmethod
    def failed(cls, reason: str, accused: tuple[str, ...] = (), *, infeasible: bool = True) -> Result:
        """The result of a start that failed."""
        return cls(None, 1.0, None, reason, accused, infeasible)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The configuration to use.

    Attributes:
        params: The whole configuration.
        measured: Its best measured value.
        expected: What it is believed to reach, all measurements considered.
        low: Lower end of the 95 % interval of `expected`.
        high: Upper end.
    """

    params: Params
    measured: float
    expected: float
    low: float
    high: float
