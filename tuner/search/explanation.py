"""What the trials say about each knob: how much of the result depends on it, and what moving it alone does.

Both come from a Gaussian process fitted to the measurements, without any prior, so that they rest on what was measured. A
knob's main effect is what the model expects at each of its values, averaged over the configurations that were measured. Its
importance is the variance of its main effect over the values, as a share of the sum over all knobs (the first-order terms of a
functional ANOVA). PED-ANOVA, as Optuna has it, looks only at which values the best trials have; it needs some dozens of trials
to be right, and is told from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from tuner.search.encoding import build_grid
from tuner.search.history import History
from tuner.search.surrogate import Points, Surrogate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.knob import Value
    from tuner.search.encoding import Grid
    from tuner.search.history import Observation
    from tuner.search.objective import Objective
    from tuner.search.space import Space

    Array = NDArray[np.float64]

METHOD: Final = "main effects of a Gaussian process"
FEWEST: Final = 5
"""Measured configurations before anything is said."""

FEWEST_PED_ANOVA: Final = 30
_PED_ANOVA_BEST: Final = 0.25
"""Share of the trials that counts as the best."""

_MOST_ROWS: Final = 60
"""Measured configurations that a main effect is averaged over."""

_TWO_SIDED: Final = 1.96


@dataclass(frozen=True, slots=True)
class Effect:
    """What moving one knob does.

    Attributes:
        values: Its values, as they are searched.
        score: The objective expected at each of them, the others as they were measured.
        low: Lower end of its 95 % interval.
        high: Upper end.
        trials: Measurements at each value.
    """

    values: tuple[Value, ...]
    score: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    trials: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the trials say about the knobs.

    Attributes:
        trials: Measurements it rests on.
        importance: Share of each knob, the largest first.
        effects: Effect of each knob.
    """

    trials: int
    importance: dict[str, float]
    effects: dict[str, Effect]


def explain_knobs(space: Space, objective: Objective, observations: Sequence[Observation]) -> Explanation | None:
    """Explain what was measured; None while too little is known.

    Args:
        space: What is searched.
        objective: What counts as better.
        observations: What became of each start.
    """
    grid = build_grid(space)
    history = History(grid, [objective], observations)
    if len(np.unique(history.worked, axis=0)) < FEWEST:
        return None
    utility = history.reach(None)
    surrogate = Surrogate([axis.coarse for axis in grid.axes], has_prior=False)
    surrogate.fit(_points(history.coordinates()), utility)
    rows = history.worked[-_MOST_ROWS:]
    effects: dict[str, Effect] = {}
    variances: dict[str, float] = {}
    for column, axis in enumerate(grid.axes):
        mean, deviation = _main_effect(grid, surrogate, rows, column)
        scale = history.scales[0]
        ends = [
            sorted(scale.value(m + side * _TWO_SIDED * d) for side in (-1, 1))
            for m, d in zip(mean, deviation, strict=True)
        ]
        counts = np.bincount(history.worked[:, column], minlength=len(axis.values))
        effects[axis.name] = Effect(
            values=axis.values,
            score=tuple(scale.value(float(each)) for each in mean),
            low=tuple(low for low, _ in ends),
            high=tuple(high for _, high in ends),
            trials=tuple(int(count) for count in counts),
        )
        variances[axis.name] = float(mean.var())
    return Explanation(len(history), _shares(variances), effects)


def ped_anova(space: Space, objective: Objective, observations: Sequence[Observation]) -> dict[str, float] | None:
    """Importances by PED-ANOVA (Watanabe and others 2023), as Optuna has it; None while there are too few trials for it."""
    good = [each for each in observations if each.value is not None and each.violation == 0]
    if len(good) < FEWEST_PED_ANOVA:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=objective.direction)
    for each in good:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(each.params), distributions=dict(space.distributions), value=each.value
            )
        )
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_PED_ANOVA_BEST))
    return _shares(found)


def _main_effect(grid: Grid, surrogate: Surrogate, rows: NDArray[np.int64], column: int) -> tuple[Array, Array]:
    """Mean and standard deviation of the utility at each value of a knob, averaged over some configurations."""
    count = len(grid.axes[column].values)
    moved = np.repeat(rows, count, axis=0)
    moved[:, column] = np.tile(np.arange(count), len(rows))
    mean, deviation = surrogate.predict(_points(grid.coordinates(moved)))
    return mean.reshape(len(rows), count).mean(axis=0), deviation.reshape(len(rows), count).mean(axis=0)


def _points(coordinates: list[Any]) -> Points:
    count = len(coordinates[0])
    return Points(coordinates, np.zeros((count, 1)), np.zeros(count, dtype=np.int64))


def _shares(amounts: dict[str, float]) -> dict[str, float]:
    total = sum(amounts.values())
    ranked = sorted(amounts.items(), key=lambda each: -each[1])
    return {name: amount / total if total > 0 else 0.0 for name, amount in ranked}
