"""What a search recommends: the best of what was measured, or with several objectives the front and its most balanced point."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from tuner.search.exchange import FrontPoint, Recommendation
from tuner.search.pareto import front_places, knee, utilities_of
from tuner.search.record import FAILURE, GATE, OUTSIDE, POINTS, VIOLATION, completed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from optuna.study import Study

    from tuner.search.objective import Objective
    from tuner.search.space import Space
    from tuner.search.strategy import Belief


def recommended(beliefs: Sequence[Belief], study: Study, space: Space, objective: Objective) -> Recommendation | None:
    """The configuration to use; None when nothing met every SLO.

    Args:
        beliefs: What is believed of what was measured, the best to take first.
        study: The trials.
        space: What is searched.
        objective: What counts as better.
    """
    outside = _best_outside(study, space)
    if not beliefs:
        return outside
    belief = beliefs[0]
    trials = [
        (trial.value, trial.number)
        for trial in completed(study)
        if trial.params == belief.params and trial.value is not None and FAILURE not in trial.user_attrs
    ]
    pick = max if objective.direction == "maximize" else min
    measured, number = pick(trials)
    params = space.complete(belief.params)
    found = Recommendation(params, measured, belief.expected, belief.low, belief.high, number)
    if outside is not None and objective.better(outside.expected, found.expected):
        return outside
    return found


def front_of(study: Study, space: Space, objectives: Sequence[Objective]) -> tuple[FrontPoint, ...]:
    """What nothing measured beats in every objective, within the SLOs and past the quality gate; by the first objective."""
    points = [
        FrontPoint(trial.number, space.complete(trial.params), tuple(point))
        for trial in completed(study)
        if FAILURE not in trial.user_attrs
        and trial.user_attrs.get(GATE) is not False
        and trial.constraints.get(VIOLATION, 0.0) == 0
        for point in trial.user_attrs.get(POINTS, [trial.values])
    ]
    return tuple(points[place] for place in front_places(_utilities(points, objectives)))


def best_of_front(front: Sequence[FrontPoint], objectives: Sequence[Objective]) -> Recommendation | None:
    """The most balanced point of a front, as measured, without an interval; None of an empty one."""
    if not front:
        return None
    chosen = front[knee(_utilities(front, objectives))]
    value = chosen.values[0]
    return Recommendation(chosen.params, value, value, math.nan, math.nan, chosen.id)


def _best_outside(study: Study, space: Space) -> Recommendation | None:
    """A baseline that lies outside the ranges, as measured."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if OUTSIDE in trial.user_attrs:
            value = float(trial.user_attrs[OUTSIDE])
            return Recommendation(dict(space.baseline), value, value, value, value)
    return None


def _utilities(points: Sequence[FrontPoint], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    return utilities_of([point.values for point in points], [each.direction == "maximize" for each in objectives])
