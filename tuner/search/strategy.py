"""Which configuration to start next: the knowledge of the search, free of Optuna and of any storage.

A proposal maximises the expected improvement over the best so far x the chance that it starts x the chance that it passes the
quality gate, among candidates from the prior's best, the neighbours of the leaders and of failures, and chance. Every fourth
proposal is the optimist's: the highest upper bound among what was never tried, which is the way out of a wrong prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tuner.search.candidates import Candidates, in_turn
from tuner.search.chances import chance_to_pass, chance_to_start
from tuner.search.doubt import is_left_aside
from tuner.search.history import History, Observation
from tuner.search.pareto import Directions
from tuner.search.surrogate import Points, Surrogate, expected_improvement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.knob import Value
    from tuner.search.encoding import Grid
    from tuner.search.objective import Objective

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

_BELIEVED: Final = 0.5
"""Trust in the prior below which the search goes step by step from its leaders: far from all measurements it knows nothing."""

_FEWEST_TO_DOUBT: Final = 2
"""Results from which the prior can be doubted: it only tells differences."""

_STEP: Final = 2
_FAR: Final = 3.0
_OPTIMIST_EVERY: Final = 4
_OPTIMISM: Final = 1.5
_CAUTION: Final = 0.3
_TWO_SIDED: Final = 1.96
_BUILD_TIMES: Final = 4.0
"""A trial whose engine must be built takes about so many times as long as one that finds it built."""

_REPEAT_WEIGHT: Final = 0.5
_REPEATS_FROM: Final = 10
"""Results after which a leader may be measured again."""

_MOST_REPEATS: Final = 2
_MOST_IMAGINED: Final = 30
"""Of what is running, the newest that the model takes for measured: with hundreds of workers it would do nothing else. None of
what is running is proposed again, imagined or not."""

_MOST_POINTS: Final = 90
"""Results the model learns from at most: its cost grows with their cube, and what is far below the best says little about it."""

_LATEST: Final = 30
_SKETCH: Final = 2000
"""Points of the prior that tell where its front lies."""

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


@dataclass(slots=True)
class View:
    """What the search looks at in one turn.

    Attributes:
        directions: Towards the front of several objectives; None with a single one.
        reach: What the observations reach, a column for each direction.
        prior: What the prior says of rows of codes, in the same columns; nothing where it is left aside.
        has_prior: Whether it says anything.
        measured: Where the observations were made, once it was worked out.
    """

    directions: Directions | None
    reach: Array
    prior: Callable[[Codes], Array]
    has_prior: bool
    measured: Points | None = None

    @property
    def column(self) -> int:
        """The column by which the model is fitted: the middle one."""
        return int(self.reach.shape[1]) // 2

    def gain(self, improvement: Array, best: Array) -> Array:
        """What improvements in each direction are worth together."""
        if self.directions is None:
            gain: Array = improvement[:, 0]
            return gain
        return self.directions.gain(improvement, best)


class Strategy:
    """Proposes from observations; the same observations and the same turn give the same proposal."""

    def __init__(
        self,
        grid: Grid,
        objectives: Sequence[Objective],
        *,
        prior: Callable[[Codes], Array] | None,
        feasible: Callable[[Codes], NDArray[np.bool_]],
        allowed: Callable[[Mapping[str, Value]], bool] = lambda _searched: True,
        forbidden: Callable[[Mapping[str, Value]], bool] = lambda _searched: False,
        built: frozenset[str] = frozenset(),
        seed: int = 0,
    ) -> None:
        """Look over the space.

        Args:
            grid: What is searched.
            objectives: What counts as better.
            prior: Utilities of rows of codes by an estimate, by row, level and objective; or None.
            feasible: Which rows may work.
            allowed: Whether settings go together; the answer is kept.
            forbidden: Whether a configuration must not be proposed any more after what has failed; asked last.
            built: Knobs of which a change costs building an engine: one that was built before is preferred.
            seed: Makes the proposals repeatable.
        """
        self._grid = grid
        self._built = [place for place, axis in enumerate(grid.axes) if axis.name in built]
        self._objectives = tuple(objectives)
        self._prior = prior
        self._forbidden = forbidden
        self._seed = seed
        coarse = [axis.coarse for axis in grid.axes]
        self._surrogates = {has_prior: Surrogate(coarse, has_prior=has_prior) for has_prior in (True, False)}
        self._surrogate = self._surrogates[prior is not None]
        self._learnt: tuple[bytes, bytes] | None = None
        self._coarse_columns = tuple(place for place, axis in enumerate(grid.axes) if axis.coarse)
        self._space = Candidates(grid, feasible=feasible, allowed=allowed, seed=seed)
        if prior is not None and len(self._space.rows):
            self._space.put_in_order(self._first_reach(self._space.rows))

    @property
    def most_repeats(self) -> int:
        """How often a leader may be measured again."""
        return _MOST_REPEATS

    def diverse(self, count: int) -> list[dict[str, Value]]:
        """The prior's best and then good ones that differ much from those before; empty without a prior."""
        rows = self._space.best_by_prior()
        if not len(rows):
            return []
        reach = self._prior_reach(rows)
        utility = (reach - reach.max(axis=0)).max(axis=1)
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
        history = History(self._grid, self._objectives, observations, pending)
        view = self._view(history, turn)
        candidates = self._space.worth_a_look(history, view.reach, rng)
        if not len(candidates):
            return None
        tried = history.times_tried(candidates)
        if tried.all():
            return None
        chance = chance_to_start(candidates, history.worked, history.failed, history.accused)
        chance = chance * chance_to_pass(candidates, history.judged, history.passed, self._coarse_columns)
        if not len(history):
            reach = view.prior(candidates)
            score = chance * np.exp((reach - reach.max(axis=0)).max(axis=1))
            return self._pick(candidates, np.where(tried > 0, -np.inf, score))
        self._learn(history, view)
        incumbents = self._incumbents(history, view)
        if len(history.pending):
            self._surrogate.imagine(self._points(history.pending[-_MOST_IMAGINED:], view))
            self._learnt = None
        beliefs = self._surrogate.predict_both(self._points(candidates, view))
        if turn % _OPTIMIST_EVERY == _OPTIMIST_EVERY - 1:
            mean, deviation = beliefs[-1]
            bound = (mean - incumbents[-1]).max(axis=1) + _OPTIMISM * deviation + np.log(np.maximum(chance, 1e-6))
            return self._pick(candidates, np.where(tried > 0, -np.inf, bound))
        gains = [
            view.gain(expected_improvement(mean, deviation[:, None], incumbent), incumbent)
            for (mean, deviation), incumbent in zip(beliefs, incumbents, strict=True)
        ]
        improvement = np.log(np.mean(gains, axis=0) * np.maximum(chance, 1e-6))
        if self._surrogate.fit_now.trust < _BELIEVED:
            improvement = np.where(self._apart(candidates, history, view) > _STEP, improvement - _FAR, improvement)
        improvement = improvement - self._building(candidates, history)
        again = (tried > 0) & (tried <= _MOST_REPEATS) & (len(history) >= _REPEATS_FROM)
        repeated = np.where(again, improvement + np.log(_REPEAT_WEIGHT), -np.inf)
        return self._pick(candidates, np.where(tried > 0, repeated, improvement))

    def _building(self, candidates: Codes, history: History) -> Array:
        """The logarithm of how many times longer a trial takes, where an engine must be built for it.

        What is looked for is improvement for the time that it takes.
        """
        if not self._built:
            return np.zeros(len(candidates))
        engines = {tuple(row) for row in history.worked[:, self._built]}
        new = np.array([tuple(row) not in engines for row in candidates[:, self._built]])
        return np.where(new, np.log(_BUILD_TIMES), 0.0)

    def believe(self, observations: Sequence[Observation]) -> list[Belief]:
        """What is believed of every configuration that was measured, met the SLOs and passed the gate; the best to take first.

        Only with a single objective: with several there is a front, and no best.
        """
        history = History(self._grid, self._objectives, observations)
        if not len(history):
            return []
        view = self._view(history, 0)
        self._learn(history, view)
        mean, deviation = self._surrogate.predict(self._measured(history, view))
        order = np.argsort(-(mean[:, 0] - _CAUTION * deviation), kind="stable")
        return [
            _belief(history, int(place), float(mean[place, 0]), float(deviation[place]))
            for place in order
            if history.may_win[place]
        ]

    def doubts_prior(self, observations: Sequence[Observation]) -> bool:
        """Whether what was measured speaks against the prior; a single result tells nothing."""
        history = History(self._grid, self._objectives, observations)
        if len(history) < _FEWEST_TO_DOUBT:
            return False
        view = self._view(history, 0)
        self._learn(history, view)
        return not view.has_prior or self._surrogate.fit_now.trust < _BELIEVED

    def best_of(self, observations: Sequence[Observation]) -> list[Mapping[str, Value]]:
        """Configurations of some observations that met the SLOs and passed the gate, the best first."""
        good = [
            each for each in observations if each.value is not None and not each.violation and each.passed is not False
        ]
        history = History(self._grid, self._objectives, good)
        reach = self._view(history, 0).reach
        return [good[place].params for place in (in_turn(reach) if len(good) else ())]

    def _view(self, history: History, turn: int) -> View:
        """What is searched for in this turn: the objective, or directions towards the front of several."""
        several = len(self._objectives) > 1 and len(history) > 0
        directions = Directions.towards(np.concatenate(history.utilities), turn) if several else None
        reach = history.reach(directions)
        has_prior = self._prior is not None and not is_left_aside(reach[history.own])
        if not has_prior:
            return View(directions, reach, lambda codes: np.zeros((len(codes), reach.shape[1])), has_prior=False)
        shift = self._prior_shift(history) if several else 0.0
        return View(directions, reach, lambda codes: self._prior_reach(codes, directions, shift), has_prior=True)

    def _prior_shift(self, history: History) -> Array:
        """By how much the prior is off in each objective, in the median."""
        assert self._prior is not None
        estimated = self._prior(history.worked).max(axis=1)
        shift: Array = np.median(history.reach(None) - estimated, axis=0)
        return shift

    def _prior_reach(self, codes: Codes, directions: Directions | None = None, shift: Array | float = 0.0) -> Array:
        """What the prior says of rows of codes at their best levels, a column for each direction or for each objective."""
        assert self._prior is not None
        estimated = self._prior(codes) + shift
        best: Array = (estimated if directions is None else directions.reach(estimated)).max(axis=1)
        return best

    def _learn(self, history: History, view: View) -> None:
        if self._surrogate is not self._surrogates[view.has_prior]:
            self._surrogate, self._learnt = self._surrogates[view.has_prior], None
        known = (view.reach.tobytes(), history.worked.tobytes())
        if known == self._learnt:
            return
        best = view.reach.max(axis=0)
        utility = np.maximum(view.reach, best - _DEPTH)
        chosen = _worth_knowing((utility - best).max(axis=1))
        points = self._measured(history, view)
        self._surrogate.fit(points.only(chosen), utility[chosen], view.column)
        self._learnt = known

    def _incumbents(self, history: History, view: View) -> list[Array]:
        """The best believed utility among what may win, in each direction, for each belief."""
        may_win = history.may_win if history.may_win.any() else np.ones(len(history), dtype=np.bool_)
        beliefs = self._surrogate.predict_both(self._measured(history, view))
        return [mean[may_win].max(axis=0) for mean, _ in beliefs]

    def _apart(self, candidates: Codes, history: History, view: View) -> NDArray[np.int64]:
        """In how many knobs each candidate differs from the leader next to it."""
        leaders = self._space.leaders(history, view.reach)
        apart: NDArray[np.int64] = (candidates[:, None, :] != leaders[None, :, :]).sum(axis=2).min(axis=1)
        return apart

    def _points(self, codes: Codes, view: View) -> Points:
        return Points(self._grid.coordinates(codes), view.prior(codes), np.zeros(len(codes), dtype=np.int64))

    def _measured(self, history: History, view: View) -> Points:
        """Where it was measured."""
        if view.measured is None:
            view.measured = Points(history.coordinates(), view.prior(history.worked), history.sessions())
        return view.measured

    def _pick(self, candidates: Codes, score: Array) -> dict[str, Value] | None:
        """The candidate with the highest score that is allowed."""
        for place in np.argsort(-score, kind="stable"):
            if not np.isfinite(score[place]):
                return None
            searched = self._grid.decode(candidates[place])
            if self._space.goes_together(candidates[place]) and not self._forbidden(searched):
                return searched
        return None

    def _first_reach(self, rows: Codes) -> Array:
        """What the prior says before anything is measured: with several objectives towards every part of its own front."""
        assert self._prior is not None
        estimated = self._prior(rows)
        if len(self._objectives) == 1:
            best: Array = estimated.max(axis=1)
            return best
        points = estimated.reshape(-1, len(self._objectives))
        few = points[np.random.default_rng(self._seed).permutation(len(points))[:_SKETCH]]
        return self._prior_reach(rows, Directions.towards(few))


def _belief(history: History, place: int, mean: float, deviation: float) -> Belief:
    scale = history.scales[0]
    ends = sorted(scale.value(mean + side * _TWO_SIDED * deviation) for side in (-1, 1))
    return Belief(history.measured[place].params, scale.value(mean), ends[0], ends[1])


def _worth_knowing(utility: Array) -> NDArray[np.int64]:
    """Places of the results the model learns from: all of them, or of very many the best and the latest."""
    if len(utility) <= _MOST_POINTS:
        return np.arange(len(utility))
    latest = np.arange(len(utility) - _LATEST, len(utility))
    best = np.argsort(-utility, kind="stable")[: _MOST_POINTS - _LATEST]
    return np.union1d(latest, best)
