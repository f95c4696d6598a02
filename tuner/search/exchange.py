"""What a search hands out and takes back: proposals, results, and in the end a recommendation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tuner.search.objective import Objective, score_levels, score_several

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.records import Metrics, Params

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
        gpus: GPUs it takes, so that small ones may run side by side; None when no knob tells.
    """

    id: int
    kind: str
    params: Params
    levels: tuple[float, ...] = ()
    expected_level: float | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a proposal.

    Attributes:
        value: The objective, or the first of several; None when there is none.
        violation: How far the worst-broken SLO is from its limit, as a share of it; 0 when all are met.
        passed_gate: What the quality gate said; None when it was not asked.
        reason: Why there is no value, in words.
        accused: Knobs that are to blame, most likely first.
        infeasible: Without a value: whether the configuration is to blame, and not a passing trouble.
        points: With several objectives: a value of each for every level within the SLOs, or for the one that breaks them least.
    """

    value: float | None
    violation: float = 0.0
    passed_gate: bool | None = None
    reason: str = ""
    accused: tuple[str, ...] = ()
    infeasible: bool = True
    points: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of_levels(
        cls,
        objective: Objective | Sequence[Objective],
        levels: Sequence[Metrics | None],
        passed_gate: bool | None = None,
    ) -> Result:
        """The result of measured levels: the best one within the SLOs, or the one that breaks them least.

        Args:
            objective: What counts as better; several of them keep every level within the SLOs that no other one beats.
            levels: Metrics of each level; None for an invalid one.
            passed_gate: What the quality gate said.
        """
        if not isinstance(objective, Objective):
            several = score_several(objective, levels)
            if not several.points:
                return cls(None, 1.0, passed_gate, _NOTHING, infeasible=False)
            return cls.several(several.points, several.violation, passed_gate)
        score = score_levels(objective, levels)
        reason = "" if score.value is not None else _NOTHING
        return cls(score.value, score.violation, passed_gate, reason, infeasible=False)

    @classmethod
    def several(
        cls, points: Sequence[Sequence[float]], violation: float = 0.0, passed_gate: bool | None = None
    ) -> Result:
        """The result under several objectives.

        Args:
            points: A value of each objective for every level that counts, the one to be shown first.
            violation: How far the worst-broken SLO is from its limit.
            passed_gate: What the quality gate said.
        """
        kept = tuple(tuple(float(value) for value in point) for point in points)
        return cls(kept[0][0], violation, passed_gate, infeasible=False, points=kept)

    @classmethod
    def failed(cls, reason: str, accused: tuple[str, ...] = (), *, infeasible: bool = True) -> Result:
        """The result of a start that failed."""
        return cls(None, 1.0, None, reason, accused, infeasible)


_NOTHING: Final = "no level gave a result"


@dataclass(frozen=True, slots=True)
class Known:
    """A result from an older session on the same model and GPU: a hint, since driver, version or load may have changed.

    Attributes:
        params: The whole configuration.
        result: What it reached, under the objective of the search.
        session: Which session it is from; what one session measured is off by a common factor of its own.
    """

    params: Params
    result: Result
    session: str = ""


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A configuration and a level that nothing measured beats in every objective.

    Attributes:
        id: Number of the trial in the Optuna study.
        params: The whole configuration.
        values: A value of each objective.
    """

    id: int
    params: Params
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The configuration to use.

    Attributes:
        params: The whole configuration.
        measured: Its best measured value.
        expected: What it is believed to reach, all measurements considered.
        low: Lower end of the 95 % interval of `expected`.
        high: Upper end.
        id: Number of its best trial in the Optuna study; None for a baseline that lies outside the ranges.
    """

    params: Params
    measured: float
    expected: float
    low: float
    high: float
    id: int | None = None
