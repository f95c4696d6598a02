"""How the search's knowledge is kept in an Optuna study: attributes and constraints of its trials, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from optuna.trial import TrialState

from tuner.search.history import Observation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from tuner.search.exchange import Result
    from tuner.search.objective import Objective

KIND: Final = "kind"
"""Attribute of every trial: `baseline`, `search` or `enqueued`."""

PARAMS: Final = "params"
"""Attribute of a trial: its whole configuration."""

OUTSIDE: Final = "outside_value"
"""Attribute of a baseline that lies outside the ranges: what it reached within the SLOs."""

VIOLATION: Final = "violation"
"""Name of the constraint that holds how far the worst-broken SLO is from its limit; failures break it too."""

FAILURE: Final = "failure"
"""Attribute of a trial that did not work because of its settings: {"reason": ..., "accused": [...]}."""

GATE: Final = "passed_gate"
"""Attribute of a trial that went through the quality gate."""

POINTS: Final = "points"
"""Attribute of a trial under several objectives: a value of each for every level that counts."""

BROKEN: Final = "broken"
"""Attribute of a trial that breaks an SLO: by how much."""


def attributes_of(result: Result) -> dict[str, Any]:
    """What a result leaves in the attributes of its trial."""
    told: dict[str, Any] = {}
    if result.value is None:
        told[FAILURE] = {"reason": result.reason, "accused": list(result.accused)}
    elif result.violation:
        told[BROKEN] = result.violation
    if result.passed_gate is not None:
        told[GATE] = result.passed_gate
    if result.points:
        told[POINTS] = [list(point) for point in result.points]
    return told


def constraint_of(result: Result) -> float:
    """What Optuna's samplers see as broken: SLOs, failures and the quality gate."""
    return 1.0 if result.value is None or result.passed_gate is False else result.violation


def values_of(result: Result, objectives: Sequence[Objective], study: Study) -> list[float]:
    """What Optuna is told: the value of each objective; of a failure as bad as the worst known."""
    if result.value is not None:
        return list(result.points[0]) if len(objectives) > 1 else [result.value]
    known = [trial.values for trial in completed(study) if trial.values is not None]
    if not known:
        return [0.0] * len(objectives)
    columns = zip(*known, strict=True)
    pairs = zip(columns, objectives, strict=True)
    return [min(column) if each.direction == "maximize" else max(column) for column, each in pairs]


def completed(study: Study) -> list[FrozenTrial]:
    """Trials that were told, failures included."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def observations_of(study: Study) -> list[Observation]:
    """What the finished trials of a study say."""
    return [_observation(trial) for trial in completed(study)]


def observation_of(params: dict[str, Any], result: Result, session: int) -> Observation:
    """What a result from an older session says."""
    return Observation(
        params, result.value, result.violation, result.accused, result.passed_gate, result.points, session
    )


def _observation(trial: FrozenTrial) -> Observation:
    failure = trial.user_attrs.get(FAILURE)
    values = trial.values or [0.0]
    return Observation(
        params=trial.params,
        value=None if failure is not None else values[0],
        violation=float(trial.user_attrs.get(BROKEN, 0.0)),
        accused=tuple(failure["accused"]) if failure is not None else (),
        passed=trial.user_attrs.get(GATE),
        points=tuple(tuple(point) for point in trial.user_attrs.get(POINTS, ())),
    )
