"""What is known so far, as the model wants it: rows of codes, utilities, failures and verdicts of the quality gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tuner.search.surrogate import Points
from tuner.search.utility import Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.base import Value
    from tuner.search.encoding import Grid
    from tuner.search.objective import Objective

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
    """

    params: Mapping[str, Value]
    value: float | None
    violation: float = 0.0
    accused: tuple[str, ...] = ()
    passed: bool | None = None


class History:
    """Observations as arrays.

    Attributes:
        measured: The observations with a value.
        worked: Their rows of codes.
        scale: How their values became utilities.
        utility: Their utilities.
        failed: Rows of the configurations that gave no result.
        accused: Of each of these: the columns that are blamed.
        pending: Rows that are running now.
        judged: Rows that went through the quality gate.
        passed: Whether they passed it.
    """

    def __init__(
        self,
        grid: Grid,
        objective: Objective,
        observations: Sequence[Observation],
        pending: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        self._grid = grid
        self._points: Points | None = None
        self.measured = [each for each in observations if each.value is not None]
        failures = [each for each in observations if each.value is None]
        self.worked = self._codes(self.measured)
        self.failed = self._codes(failures)
        self.pending = np.array([grid.encode(each) for each in pending], dtype=np.int64).reshape(-1, len(grid.axes))
        columns = {axis.name: column for column, axis in enumerate(grid.axes)}
        self.accused = [tuple(columns[name] for name in each.accused if name in columns) for each in failures]
        gated = [each for each in observations if each.passed is not None]
        self.judged = self._codes(gated)
        self.passed = np.array([each.passed is True for each in gated], dtype=np.bool_)
        values = np.array([each.value for each in self.measured], dtype=np.float64)
        violations = np.array([each.violation for each in self.measured])
        self.scale = Scale.of(values, objective.direction)
        self.utility = self.scale.utility(values, violations)

    def leaders(self, count: int) -> Codes:
        """The best different rows that passed the gate, best first."""
        chosen: list[NDArray[np.int64]] = []
        for place in np.argsort(-self.utility, kind="stable"):
            row = self.worked[place]
            if self.measured[place].passed is not False and not any((row == other).all() for other in chosen):
                chosen.append(row)
            if len(chosen) == count:
                break
        return np.array(chosen, dtype=np.int64).reshape(len(chosen), len(self._grid.axes))

    def times_tried(self, candidates: Codes) -> NDArray[np.int64]:
        """How often each candidate was started; one that failed counts as too often."""
        times = np.zeros(len(candidates), dtype=np.int64)
        if len(self.worked):
            times += (candidates[:, None, :] == self.worked[None, :, :]).all(axis=2).sum(axis=1)
        for rows in (self.failed, self.pending):
            times += 99 * (candidates[:, None, :] == rows[None, :, :]).all(axis=2).any(axis=1)
        return times

    def points(self, prior: Callable[[Codes], Array]) -> Points:
        """Where it was measured, exactly."""
        if self._points is None:
            rows = [dict(each.params) for each in self.measured]
            self._points = Points(self._grid.exact_coordinates(rows), prior(self.worked))
        return self._points

    def _codes(self, observations: Sequence[Observation]) -> Codes:
        rows = [self._grid.encode(each.params) for each in observations]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self._grid.axes))
