"""What is known so far, as the model wants it: rows of codes, utilities, failures and verdicts of the quality gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tuner.search.utility import Scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.knob import Value
    from tuner.search.encoding import Grid
    from tuner.search.objective import Objective
    from tuner.search.pareto import Directions

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of one start.

    Attributes:
        params: Values of all searched knobs.
        value: The objective; None when there is no result.
        violation: How far the worst-broken SLO is from its limit.
        accused: Knobs that are blamed for a failure.
        passed: What the quality gate said; None when it was not asked.
        points: With several objectives: a value of each for every level that counts.
        session: 0 for this session; else which older one it is from.
    """

    params: Mapping[str, Value]
    value: float | None
    violation: float = 0.0
    accused: tuple[str, ...] = ()
    passed: bool | None = None
    points: tuple[tuple[float, ...], ...] = ()
    session: int = 0


class History:
    """Observations as arrays.

    Attributes:
        measured: The observations with a value.
        worked: Their rows of codes.
        own: Which of them are of this session.
        scales: How the values of each objective became utilities.
        utilities: Of each of them: utilities of every level that counts; a row per level, a column per objective.
        may_win: Which of them are this session's own, met every SLO and did not fail the quality gate.
        failed: Rows of the configurations that gave no result.
        accused: Of each of these: the columns that are blamed.
        pending: Rows that are running now.
        judged: Rows that went through the quality gate.
        passed: Whether they passed it.
    """

    def __init__(
        self,
        grid: Grid,
        objectives: Sequence[Objective],
        observations: Sequence[Observation],
        pending: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        self._grid = grid
        self.measured = [each for each in observations if each.value is not None]
        failures = [each for each in observations if each.value is None]
        self.worked = self._codes(self.measured)
        self.own = np.array([each.session == 0 for each in self.measured], dtype=np.bool_)
        self.failed = self._codes(failures)
        self._failed_here = self._codes([each for each in failures if each.session == 0])
        self.pending = np.array([grid.encode(each) for each in pending], dtype=np.int64).reshape(-1, len(grid.axes))
        columns = {axis.name: column for column, axis in enumerate(grid.axes)}
        self.accused = [tuple(columns[name] for name in each.accused if name in columns) for each in failures]
        gated = [each for each in observations if each.passed is not None]
        self.judged = self._codes(gated)
        self.passed = np.array([each.passed is True for each in gated], dtype=np.bool_)
        good = [each.violation == 0 and each.passed is not False for each in self.measured]
        self.may_win = self.own & np.array(good, dtype=np.bool_)
        tables = [_values(each, len(objectives)) for each in self.measured]
        everything = np.concatenate(tables) if tables else np.empty((0, len(objectives)))
        self.scales = [Scale.of(everything[:, place], each.direction) for place, each in enumerate(objectives)]
        rows = np.array([len(table) for table in tables], dtype=np.int64)
        broken = np.repeat(np.array([each.violation for each in self.measured]), rows)
        utilities = [scale.utility(everything[:, place], broken) for place, scale in enumerate(self.scales)]
        self.utilities = np.split(np.stack(utilities, axis=1), np.cumsum(rows)[:-1]) if tables else []

    def __len__(self) -> int:
        return len(self.measured)

    def reach(self, directions: Directions | None) -> Array:
        """One number per direction for each observation, by its best level; the utility itself with a single objective."""
        if not self.measured:
            return np.empty((0, 1))
        if directions is None and len(self.scales) == 1:
            return np.concatenate(self.utilities)
        if directions is None:
            return np.array([each.max(axis=0) for each in self.utilities])
        return np.array([directions.reach(each).max(axis=0) for each in self.utilities])

    def leaders(self, count: int, reach: Array) -> Codes:
        """The best different rows that passed the gate, best first; with several directions the best of each in turn."""
        chosen: list[NDArray[np.int64]] = []
        orders = np.argsort(-reach, axis=0, kind="stable")
        for place in orders.ravel():
            row = self.worked[place]
            if self.measured[place].passed is not False and not any((row == other).all() for other in chosen):
                chosen.append(row)
            if len(chosen) == count:
                break
        return np.array(chosen, dtype=np.int64).reshape(len(chosen), len(self._grid.axes))

    def times_tried(self, candidates: Codes) -> NDArray[np.int64]:
        """How often each candidate was started in this session; one that failed or is running counts as too often."""
        times = self._grid.times_among(candidates, self.worked[self.own])
        for rows in (self._failed_here, self.pending):
            times += 99 * (self._grid.times_among(candidates, rows) > 0)
        return times

    def coordinates(self) -> list[Array]:
        """Where it was measured, exactly: one array per axis."""
        return self._grid.exact_coordinates([dict(each.params) for each in self.measured])

    def sessions(self) -> NDArray[np.int64]:
        """Which session each observation is from."""
        return np.array([each.session for each in self.measured], dtype=np.int64)

    def _codes(self, observations: Sequence[Observation]) -> Codes:
        rows = [self._grid.encode(each.params) for each in observations]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self._grid.axes))


def _values(observation: Observation, objectives: int) -> Array:
    """Values of an observation: a row per level that counts, a column per objective."""
    rows = observation.points if objectives > 1 else ((observation.value,),)
    return np.array(rows, dtype=np.float64).reshape(-1, objectives)
