"""From what was measured to one number: the score of a trial.

Under SLOs the score of a trial is the objective at the best level that meets them all. A level that breaks one says by how much,
so that the search learns also from trials that meet none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sessions.metrics import METRICS
from sessions.slo import EACH
from sessions.summary import gain_over, is_better

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.records import Metrics
    from sessions.slo import Slo


_LEAST = 1e-9
"""Least size of a limit in a share of it, and least violation of one that is broken."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What counts as better.

    Attributes:
        metric: Name of the metric.
        stat: Statistic of it.
        direction: Which way is better.
        slos: Limits a level must meet to count.
    """

    metric: str
    stat: str
    direction: Literal["maximize", "minimize"]
    slos: tuple[Slo, ...] = ()

    @property
    def label(self) -> str:
        """The objective in words."""
        limits = f" under {', '.join(str(slo) for slo in self.slos)}" if self.slos else ""
        return f"{self.direction} {self.name}{limits}"

    @property
    def name(self) -> str:
        """Metric and statistic, which a mean does not need."""
        return self.metric if self.stat == "avg" else f"{self.metric} {self.stat}"

    def shown(self, value: float) -> str:
        """A value of it, with its name and unit."""
        return f"{self.name} {value:.4g} {METRICS[self.metric].unit}"

    def better(self, one: float, other: float) -> bool:
        """Whether the first value is strictly better than the second."""
        return is_better(one, other, maximize=self.direction == "maximize")

    def gain(self, value: float, baseline: float) -> float:
        """By which share of the baseline a value is better; negative when worse, NaN when the baseline is 0."""
        return gain_over(value, baseline, maximize=self.direction == "maximize")

    def value(self, result: Metrics) -> float | None:
        """The objective in a level's result; None when it was not measured."""
        value = result.get(self.metric, {}).get(self.stat)
        return None if value is None or math.isnan(value) else value

    def violation(self, result: Metrics) -> float:
        """How far the worst-broken SLO is from its limit, as a share of the limit; 0 when all are met.

        A metric that was not measured breaks its SLO by 1.
        """
        return max((slo_violation(slo, result) for slo in self.slos), default=0.0)

    def worst_broken(self, result: Metrics) -> Slo | None:
        """The SLO that is broken most, or None."""
        worst = max(self.slos, key=lambda slo: slo_violation(slo, result), default=None)
        return worst if worst is not None and slo_violation(worst, result) > 0 else None


def slo_violation(slo: Slo, result: Metrics) -> float:
    """By which share of its limit an SLO is broken; 0 when it is met."""
    if slo.stat == EACH:
        return 0.0  # limits single requests: it shows in the goodput, not here
    value = result.get(slo.metric, {}).get(slo.stat)
    if value is None or math.isnan(value):
        return 1.0
    if slo.holds(result):
        return 0.0
    return max(
        abs(value - slo.value) / max(abs(slo.value), _LEAST), _LEAST
    )  # on the limit is beyond it for `<` and `>`


@dataclass(frozen=True, slots=True)
class Score:
    """What a trial is worth.

    Attributes:
        value: The objective at the chosen level; None when no level was valid.
        feasible: Whether the chosen level meets every SLO.
        violation: How far its worst-broken SLO is from its limit; 0 when feasible.
        level: Place of the chosen level among those measured, or None.
        result: Its metrics.
    """

    value: float | None
    feasible: bool
    violation: float
    level: int | None
    result: Metrics


def score_levels(objective: Objective, results: Sequence[Metrics | None]) -> Score:
    """Choose the level that gives a trial its score.

    Among the levels that meet every SLO the one with the best objective; when there is none, the one that breaks the SLOs least.

    Args:
        objective: What counts as better.
        results: Metrics of each measured level; None for an invalid one.
    """
    chosen: Score | None = None
    for place, result in enumerate(results):
        value = None if result is None else objective.value(result)
        if result is None or value is None:
            continue
        violation = objective.violation(result)
        candidate = Score(value, violation == 0, violation, place, result)
        if chosen is None or _beats(objective, candidate, chosen):
            chosen = candidate
    return chosen or Score(None, False, 1.0, None, {})


def _beats(objective: Objective, one: Score, other: Score) -> bool:
    if one.feasible != other.feasible:
        return one.feasible
    if not one.feasible:
        return one.violation < other.violation
    assert one.value is not None
    assert other.value is not None
    return objective.better(one.value, other.value)


@dataclass(frozen=True, slots=True)
class SeveralScores:
    """What a trial is worth under several objectives.

    Attributes:
        points: A value of each objective for every level within the SLOs that no other level beats, the best by the first objective
            first; or for the one level that breaks the SLOs least. Empty when no level gave a result.
        levels: Place of each point's level among those measured.
        violation: How far the worst-broken SLO is from its limit; 0 when the points meet every SLO.
    """

    points: tuple[tuple[float, ...], ...] = ()
    levels: tuple[int, ...] = ()
    violation: float = 1.0


def score_several(objectives: Sequence[Objective], results: Sequence[Metrics | None]) -> SeveralScores:
    """The levels of a trial that count under several objectives; the SLOs of all of them must be met.

    Args:
        objectives: What counts as better.
        results: Metrics of each measured level; None for an invalid one.
    """
    from tuner.search.pareto import front_places, utilities_of  # only several objectives need numpy

    whole: list[tuple[int, tuple[float, ...], float]] = []
    for place, result in enumerate(results):
        if result is None:
            continue
        values = tuple(value for each in objectives if (value := each.value(result)) is not None)
        if len(values) == len(objectives):
            whole.append((place, values, max(each.violation(result) for each in objectives)))
    if not whole:
        return SeveralScores()
    meeting = [each for each in whole if each[2] == 0]
    if not meeting:
        place, values, violation = min(whole, key=lambda each: each[2])
        return SeveralScores((values,), (place,), violation)
    table = utilities_of([values for _, values, _ in meeting], [each.direction == "maximize" for each in objectives])
    kept = [meeting[place] for place in front_places(table)]
    return SeveralScores(tuple(values for _, values, _ in kept), tuple(place for place, _, _ in kept), 0.0)
