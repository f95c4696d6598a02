"""Which configurations are worth a look: neighbours of the leaders, the prior's best, some by chance, ways out of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.knob import Value
    from tuner.search.encoding import Grid
    from tuner.search.history import History

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
_MOST_CANDIDATES: Final = 700
_FEWEST_FAR: Final = 200
_WHOLE: Final = 2
"""Leaders around which also a knob is moved that only goes together with another one moved."""

_REPAIRS: Final = 2


class Candidates:
    """The rows of a space that may work, and those of them that are worth a look after what was tried.

    Attributes:
        rows: All of them, or of a very large space as many random ones, in random order.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        feasible: Callable[[Codes], NDArray[np.bool_]],
        allowed: Callable[[Mapping[str, Value]], bool],
        seed: int,
    ) -> None:
        """Look over the space.

        Args:
            grid: What is searched.
            feasible: Which rows may work.
            allowed: Whether settings go together; the answer is kept.
            seed: Makes the draw repeatable.
        """
        self._grid = grid
        self._feasible = feasible
        self._allowed = allowed
        self._fits: dict[bytes, bool] = {}
        self._best_first: NDArray[np.int64] | None = None
        rng = np.random.default_rng(seed)
        rows = grid.everything() if grid.size <= _ENUMERABLE else grid.draw(rng, _ENUMERABLE)
        rows = grid.canonical(rows)
        rows = rows[feasible(rows)]
        rng.shuffle(rows)
        self.rows = rows

    def put_in_order(self, reach: Array) -> None:
        """Put the rows in the order of what a prior says they reach; those in front go together.

        Args:
            reach: By row, a column for each direction that is searched.
        """
        order = in_turn(reach)
        front: list[int] = []
        looked_at = 0
        for place in order[: _LOOKED_AT * _POOL]:
            looked_at += 1
            if self.goes_together(self.rows[place]):
                front.append(int(place))
            if len(front) == _POOL:
                break
        self._best_first = np.concatenate([np.array(front, dtype=np.int64), order[looked_at:]])

    def best_by_prior(self) -> Codes:
        """The rows in front; none where nothing put them in order."""
        return self.rows[:0] if self._best_first is None else self.rows[self._best_first[:_POOL]]

    def leaders(self, history: History, reach: Array) -> Codes:
        """The best rows so far."""
        return history.leaders(_LEADERS, reach)

    def worth_a_look(self, history: History, reach: Array, rng: np.random.Generator) -> Codes:
        """Rows worth a look: the leaders' neighbours, the prior's, some by chance, and what failed with the blamed knob moved.

        Args:
            history: What was tried.
            reach: What each trial of it reaches, a column for each direction that is searched.
            rng: Draws the random ones.
        """
        near, far = [], []
        leaders = self.leaders(history, reach)
        for place, row in enumerate(leaders):
            near += [row[None, :], self._around(row, whole=place < _WHOLE)]
            far.append(self._grid.two_changes(row, rng, _TWO_CHANGES))
        if len(self.rows):
            if self._best_first is not None:
                far.append(self.rows[self._best_first[:_POOL]])
                far.append(self.rows[self._best_first[_POOL :: max(1, len(self.rows) // _RANDOM)]][:_RANDOM])
            far.append(self.rows if len(self.rows) <= _POOL else self.rows[rng.integers(0, len(self.rows), _RANDOM)])
        far += [
            self._away_from(row, blamed) for row, blamed in zip(history.failed, history.accused, strict=True) if blamed
        ]
        kept, others = self._possible(near), self._possible(far)
        if len(kept) + len(others) > _MOST_CANDIDATES:
            others = others[rng.permutation(len(others))[: max(_MOST_CANDIDATES - len(kept), _FEWEST_FAR)]]
        return self._grid.unique(np.concatenate([kept, others]))

    def _possible(self, parts: Sequence[Codes]) -> Codes:
        """The different rows that may work; whether their settings go together is asked of those alone that are picked."""
        if not parts:
            return np.empty((0, len(self._grid.axes)), dtype=np.int64)
        rows = self._grid.canonical(np.concatenate(parts))
        return rows[self._feasible(rows)]

    def goes_together(self, row: NDArray[np.int64]) -> bool:
        """Whether the settings of a row may stand together."""
        key = row.tobytes()
        known = self._fits.get(key)
        if known is None:
            known = self._fits[key] = self._allowed(self._grid.decode(row))
        return known

    def _around(self, row: NDArray[np.int64], *, whole: bool) -> Codes:
        """Rows that differ in one knob; where that does not go together with another one, that one is moved a little too."""
        rows = self._grid.neighbours(row)
        if not whole:
            return rows
        blocked = rows[[not self.goes_together(other) for other in rows]]
        repaired = [self._repaired(other, int(np.flatnonzero(other != row)[0])) for other in blocked]
        return np.concatenate([rows, *repaired])

    def _repaired(self, row: NDArray[np.int64], kept: int) -> Codes:
        """Rows nearest to one that does not go together, with the knob `kept` as it is there."""
        rows = self._grid.neighbours(row)
        rows = rows[rows[:, kept] == row[kept]]
        apart = sum(
            np.abs(axis.places[rows[:, column]] - axis.places[row[column]]).sum(axis=1)
            for column, axis in enumerate(self._grid.axes)
        )
        found: list[NDArray[np.int64]] = []
        for place in np.argsort(apart, kind="stable"):
            if self.goes_together(rows[place]):
                found.append(rows[place])
            if len(found) == _REPAIRS:
                break
        return np.array(found, dtype=np.int64).reshape(len(found), len(row))

    def _away_from(self, row: NDArray[np.int64], blamed: tuple[int, ...]) -> Codes:
        """What failed, with the knob that is blamed most moved."""
        column = blamed[0]
        count = len(self._grid.axes[column].values)
        rows = np.repeat(row[None, :], count, axis=0)
        rows[:, column] = np.arange(count)
        return rows


def in_turn(reach: Array) -> NDArray[np.int64]:
    """Places, the best of each column in turn."""
    orders = np.argsort(-reach, axis=0, kind="stable").ravel()
    _, first = np.unique(orders, return_index=True)
    places: NDArray[np.int64] = orders[np.sort(first)]
    return places
