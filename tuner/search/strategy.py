"""Which configuration to start next: the knowledge of the search, free of Optuna and of any storage.

A proposal maximises the expected improvement over the best so far x the chance that it starts x the chance that it passes the
quality gate, among candidates from the prior's best, the neighbours of the leaders and of failures, and chance. Every fourth
proposal is the optimist's: the highest upper bound among what was never tried, which is the way out of a wrong prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tuner.search.chances import chance_to_pass, chance_to_start
from tuner.search.history import History, Observation
from tuner.search.surrogate import Points, Surrogate, expected_improvement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.base import Value
    from tuner.search.encoding import Grid
    from tuner.search.objective import Objective

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

_ENUMERABLE: Final = 30_000
"""A grid up to this size is looked at whole; a larger one through as many random rows."""

_POOL: Final = 400
_LOOKED_AT: Final = 8
"""How many times the pool is looked through at most for configurations that are allowed."""

_LEADERS: Final = 4
_TWO_CHANGES: Final = 30
_RANDOM: Final = 100
_MOST_CANDIDATES: Final = 600
_OPTIMIST_EVERY: Final = 4
_OPTIMISM: Final = 1.5
_CAUTION: Final = 0.3
_TWO_SIDED: Final = 1.96
_REPEAT_WEIGHT: Final = 0.5
_REPEATS_FROM: Final = 10
"""Results after which a leader may be measured again."""

_MOST_REPEATS: Final = 2
_MOST_POINTS: Final = 110
"""Results the model learns from at most: its cost grows with their cube, and what is far below the best says little about it."""

_LATEST: Final = 30
_DEPTH: Final = 2.5
"""A result this far below the best (a twelfth of it) is as bad as any worse one: the model need not tell them apart."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of a configuration that was measured.

    Attributes:
        params: Values of all searched knobs.
        expected: The objective by the posterior mean.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    params: Mapping[str, Value]
    expected: float
    low: float
    high: float


class Strategy:
    """Proposes from observations; the same observations and the same turn give the same proposal."""

    def __init__(
        self,
        grid: Grid,
        objective: Objective,
        *,
        prior: Callable[[Codes], Array] | None,
        feasible: Callable[[Codes], NDArray[np.bool_]],
        allowed: Callable[[Mapping[str, Value]], bool] = lambda _searched: True,
        seed: int = 0,
    ) -> None:
        """Look over the space.

        Args:
            grid: What is searched.
            objective: What counts as better.
            prior: Utility of rows of codes by an estimate, or None.
            feasible: Which rows may work.
            allowed: Whether a configuration may be proposed; asked last, since it looks at one at a time.
            seed: Makes the proposals repeatable.
        """
        self._grid = grid
        self._objective = objective
        self._prior = prior
        self._feasible = feasible
        self._allowed = allowed
        self._seed = seed
        self._surrogate = Surrogate([axis.coarse for axis in grid.axes], has_prior=prior is not None)
        self._learnt: tuple[bytes, bytes] | None = None
        self._coarse_columns = tuple(place for place, axis in enumerate(grid.axes) if axis.coarse)
        rng = np.random.default_rng(seed)
        rows = grid.everything() if grid.size <= _ENUMERABLE else grid.draw(rng, _ENUMERABLE)
        rows = grid.canonical(rows)
        rows = rows[feasible(rows)]
        rng.shuffle(rows)
        self._rows = rows
        self._best_first = self._prior_order(rows)

    @property
    def most_repeats(self) -> int:
        """How often a leader may be measured again."""
        return _MOST_REPEATS

    def diverse(self, count: int) -> list[dict[str, Value]]:
        """The prior's best and then good ones that differ much from those before; empty without a prior."""
        if self._best_first is None or self._prior is None:
            return []
        rows = self._rows[self._best_first[:_POOL]]
        utility = self._prior(rows)
        chosen: list[int] = []
        weights = np.array([2.0 if axis.coarse else 1.0 for axis in self._grid.axes])
        apart = np.full(len(rows), np.inf)
        for _ in range(min(count, len(rows))):
            bonus = 0.0 if not chosen else 0.25 * np.minimum(apart / weights.sum(), 0.5)
            pick = int(np.argmax(np.where(apart > 0, utility + bonus, -np.inf)))
            chosen.append(pick)
            apart = np.minimum(apart, ((rows != rows[pick]) * weights).sum(axis=1))
        return [self._grid.decode(rows[pick]) for pick in chosen]

    def propose(
        self, observations: Sequence[Observation], turn: int, pending: Sequence[Mapping[str, Value]] = ()
    ) -> dict[str, Value] | None:
        """The next configuration; None when every row that may work was tried.

        Args:
            observations: Everything known so far.
            turn: Number of this proposal: decides whether it is the optimist's.
            pending: Configurations that are running now.
        """
        rng = np.random.default_rng((self._seed, turn))
        history = History(self._grid, self._objective, observations, pending)
        candidates = self._candidates(history, rng)
        if not len(candidates):
            return None
        tried = history.times_tried(candidates)
        if tried.all():
            return None
        chance = chance_to_start(candidates, history.worked, history.failed, history.accused)
        chance = chance * chance_to_pass(candidates, history.judged, history.passed, self._coarse_columns)
        if not len(history.utility):
            score = chance * np.exp(self._of_prior(candidates) - self._of_prior(candidates).max())
            return self._pick(candidates, np.where(tried > 0, -np.inf, score))
        self._learn(history)
        mean, deviation = self._surrogate.predict(self._points(candidates))
        if turn % _OPTIMIST_EVERY == _OPTIMIST_EVERY - 1:
            bound = mean + _OPTIMISM * deviation + np.log(np.maximum(chance, 1e-6))
            return self._pick(candidates, np.where(tried > 0, -np.inf, bound))
        improvement = np.log(expected_improvement(mean, deviation, self._incumbent(history)) * np.maximum(chance, 1e-6))
        again = (tried > 0) & (tried <= _MOST_REPEATS) & (len(history.utility) >= _REPEATS_FROM)
        repeated = np.where(again, improvement + np.log(_REPEAT_WEIGHT), -np.inf)
        return self._pick(candidates, np.where(tried > 0, repeated, improvement))

    def believe(self, observations: Sequence[Observation]) -> list[Belief]:
        """What is believed of every configuration that was measured, met the SLOs and passed the gate; the best to take first."""
        history = History(self._grid, self._objective, observations)
        if not len(history.utility):
            return []
        self._learn(history)
        mean, deviation = self._surrogate.predict(history.points(self._of_prior))
        order = np.argsort(-(mean - _CAUTION * deviation), kind="stable")
        return [
            _belief(history, int(place), float(mean[place]), float(deviation[place]))
            for place in order
            if history.measured[place].violation == 0 and history.measured[place].passed is not False
        ]

    def _learn(self, history: History) -> None:
        known = (history.utility.tobytes(), history.worked.tobytes())
        if known == self._learnt:
            return
        utility = np.maximum(history.utility, history.utility.max() - _DEPTH)
        chosen = _worth_knowing(utility)
        points = history.points(self._of_prior)
        self._surrogate.fit(points.only(chosen), utility[chosen])
        self._learnt = known

    def _incumbent(self, history: History) -> float:
        """The best believed utility among what may win."""
        mean, _ = self._surrogate.predict(history.points(self._of_prior))
        may_win = np.array([each.violation == 0 and each.passed is not False for each in history.measured])
        return float(mean[may_win].max() if may_win.any() else mean.max())

    def _candidates(self, history: History, rng: np.random.Generator) -> Codes:
        grid, parts = self._grid, []
        if len(self._rows):
            if self._best_first is not None:
                parts.append(self._rows[self._best_first[:_POOL]])
                parts.append(self._rows[self._best_first[_POOL :: max(1, len(self._rows) // _RANDOM)]][:_RANDOM])
            parts.append(self._rows[rng.integers(0, len(self._rows), _RANDOM)])
            if len(self._rows) <= _POOL:
                parts.append(self._rows)
        for row in history.leaders(_LEADERS):
            parts += [row[None, :], grid.neighbours(row), grid.two_changes(row, rng, _TWO_CHANGES)]
        parts += [
            self._away_from(row, blamed) for row, blamed in zip(history.failed, history.accused, strict=True) if blamed
        ]
        if not parts:
            return np.empty((0, len(grid.axes)), dtype=np.int64)
        rows = grid.canonical(np.concatenate(parts))
        rows = rows[self._feasible(rows)]
        if len(rows) <= _MOST_CANDIDATES:
            return rows
        # Too many: the neighbours of the leaders stay, of the others a part drawn at random.
        near = (rows[:, None, :] != history.leaders(_LEADERS)[None, :, :]).sum(axis=2).min(axis=1, initial=99) <= 1
        others = rng.permutation(np.flatnonzero(~near))[: max(_MOST_CANDIDATES - int(near.sum()), 100)]
        kept: Codes = rows[np.concatenate([np.flatnonzero(near), others])]
        return kept

    def _away_from(self, row: NDArray[np.int64], blamed: tuple[int, ...]) -> Codes:
        """What failed, with the knob that is blamed most moved."""
        column = blamed[0]
        count = len(self._grid.axes[column].values)
        rows = np.repeat(row[None, :], count, axis=0)
        rows[:, column] = np.arange(count)
        return rows

    def _of_prior(self, codes: Codes) -> Array:
        return np.zeros(len(codes)) if self._prior is None else self._prior(codes)

    def _points(self, codes: Codes) -> Points:
        return Points(self._grid.coordinates(codes), self._of_prior(codes))

    def _pick(self, candidates: Codes, score: Array) -> dict[str, Value] | None:
        """The candidate with the highest score that is allowed."""
        for place in np.argsort(-score, kind="stable"):
            if not np.isfinite(score[place]):
                return None
            searched = self._grid.decode(candidates[place])
            if self._allowed(searched):
                return searched
        return None

    def _prior_order(self, rows: Codes) -> NDArray[np.int64] | None:
        """Places of the rows, the prior's best first; those in front are allowed."""
        if self._prior is None or not len(rows):
            return None
        order = np.argsort(-self._prior(rows), kind="stable")
        front: list[int] = []
        looked_at = 0
        for place in order[: _LOOKED_AT * _POOL]:
            looked_at += 1
            if self._allowed(self._grid.decode(rows[place])):
                front.append(int(place))
            if len(front) == _POOL:
                break
        return np.concatenate([np.array(front, dtype=np.int64), order[looked_at:]])


def _belief(history: History, place: int, mean: float, deviation: float) -> Belief:
    ends = sorted(history.scale.value(mean + side * _TWO_SIDED * deviation) for side in (-1, 1))
    return Belief(history.measured[place].params, history.scale.value(mean), ends[0], ends[1])


def _worth_knowing(utility: Array) -> NDArray[np.int64]:
    """Places of the results the model learns from: all of them, or of very many the best and the latest."""
    if len(utility) <= _MOST_POINTS:
        return np.arange(len(utility))
    latest = np.arange(len(utility) - _LATEST, len(utility))
    best = np.argsort(-utility, kind="stable")[: _MOST_POINTS - _LATEST]
    return np.union1d(latest, best)
