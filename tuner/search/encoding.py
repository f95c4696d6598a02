"""Configurations as numbers: each knob a grid of values, each value a place on that knob's axis.

The search works on grids also where the domain is a range; a range gets `RANGE_POINTS` values. Numbers lie on a linear or a
logarithmic axis from 0 to 1; unordered choices lie one apart from each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    from engines.knob import Value
    from tuner.search.space import Space

RANGE_POINTS: Final = 25
_LOG_RATIO: Final = 8.0
"""A grid of positive numbers that spans more than this factor is laid out on a logarithmic axis."""

Codes = "NDArray[np.int64]"
"""A row per configuration, a column per knob: the place of the value in the knob's grid."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One searched knob.

    Attributes:
        name: Knob.
        values: Its grid.
        places: Coordinates of each value, one row each.
        coarse: Whether it belongs to the coarse part of the model.
        log: Whether its numbers lie on a logarithmic axis.
        span: Smallest and largest number as they lie on the axis; None for unordered choices.
    """

    name: str
    values: tuple[Value, ...]
    places: NDArray[np.float64]
    coarse: bool
    log: bool = False
    span: tuple[float, float] | None = None

    def nearest(self, value: Value) -> int:
        """Place in the grid of the value that is nearest; 0 for a choice that is not in it."""
        for place, own in enumerate(self.values):
            if own == value and isinstance(own, bool) == isinstance(value, bool):
                return place
        if self.span is None or not _is_number(value):
            return 0
        return int(np.argmin(np.abs(self.places[:, 0] - self._coordinate(float(value)))))  # type: ignore[arg-type]

    def place(self, value: Value) -> NDArray[np.float64]:
        """Coordinates of a value, also of one between the grid's."""
        if self.span is not None and _is_number(value):
            row = np.zeros(self.places.shape[1])
            row[0] = self._coordinate(float(value))  # type: ignore[arg-type]
            return row
        known: NDArray[np.float64] = self.places[self.nearest(value)]
        return known

    def _coordinate(self, value: float) -> float:
        assert self.span is not None
        low, high = self.span
        at = math.log(max(value, 1e-12)) if self.log else value
        return (at - low) / (high - low) if high > low else 0.0


@dataclass(frozen=True, slots=True)
class Grid:
    """The whole search space as axes.

    Attributes:
        axes: One per searched knob.
        requires: Of each axis: the place of the value it takes when it has no effect, and what gives it effect, as (axis, places).
    """

    axes: tuple[Axis, ...]
    requires: tuple[tuple[int, tuple[tuple[int, frozenset[int]], ...]], ...]
    _encoded: dict[tuple[Value, ...], NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def size(self) -> float:
        """Number of configurations."""
        return math.prod(float(len(axis.values)) for axis in self.axes)

    def encode(self, params: Mapping[str, Value]) -> NDArray[np.int64]:
        """The grid's configuration nearest to one that names every axis."""
        key = tuple(params[axis.name] for axis in self.axes)
        known = self._encoded.get(key)
        if known is None:
            known = np.array([axis.nearest(value) for axis, value in zip(self.axes, key, strict=True)], dtype=np.int64)
            self._encoded[key] = known
        return known

    def decode(self, codes: NDArray[np.int64]) -> dict[str, Value]:
        """The configuration of a row of codes."""
        return {axis.name: axis.values[int(code)] for axis, code in zip(self.axes, codes, strict=True)}

    def coordinates(self, codes: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Coordinates of each row, one array per axis."""
        return [axis.places[codes[:, column]] for column, axis in enumerate(self.axes)]

    def exact_coordinates(self, rows: list[dict[str, Value]]) -> list[NDArray[np.float64]]:
        """Coordinates of configurations whose values may lie between the grid's, one array per axis."""
        codes = np.array([self.encode(row) for row in rows], dtype=np.int64).reshape(len(rows), len(self.axes))
        found = self.coordinates(codes)
        for column, axis in enumerate(self.axes):
            for place, row in enumerate(rows):
                if axis.span is not None and row[axis.name] != axis.values[codes[place, column]]:
                    found[column][place] = axis.place(row[axis.name])
        return found

    def canonical(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows in which a knob without effect has its usual value, so that equal servers have equal rows; repeats are left out."""
        codes = codes.copy()
        for column, (usual, conditions) in enumerate(self.requires):
            for other, places in conditions:
                without = ~np.isin(codes[:, other], list(places))
                codes[without, column] = usual
        return self.unique(codes)

    def unique(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The different rows, in order."""
        if self.size >= 2.0**62:
            return np.unique(codes, axis=0)
        _, first = np.unique(self._numbers(codes), return_index=True)
        return codes[first]

    def times_among(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
        """How often each of some rows is among others."""
        if self.size >= 2.0**62:
            times: NDArray[np.int64] = (rows[:, None, :] == others[None, :, :]).all(axis=2).sum(axis=1)
            return times
        if not len(others):
            return np.zeros(len(rows), dtype=np.int64)
        known, counts = np.unique(self._numbers(others), return_counts=True)
        wanted = self._numbers(rows)
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[places] == wanted, counts[places], 0)

    def _numbers(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each row as one number, in the same order: sorted and compared much faster than as a row."""
        sizes = np.array([len(axis.values) for axis in self.axes], dtype=np.int64)
        numbers: NDArray[np.int64] = codes @ np.append(np.cumprod(sizes[:0:-1])[::-1], 1)
        return numbers

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Rows drawn uniformly."""
        return np.stack([rng.integers(0, len(axis.values), count) for axis in self.axes], axis=1)

    def everything(self) -> NDArray[np.int64]:
        """Every row there is; look at `size` first."""
        ranges = [np.arange(len(axis.values)) for axis in self.axes]
        return np.stack([part.ravel() for part in np.meshgrid(*ranges, indexing="ij")], axis=1)

    def neighbours(self, code: NDArray[np.int64]) -> NDArray[np.int64]:
        """Every row that differs from this one in one knob."""
        rows = []
        for column, axis in enumerate(self.axes):
            changed = np.repeat(code[None, :], len(axis.values), axis=0)
            changed[:, column] = np.arange(len(axis.values))
            rows.append(changed[np.arange(len(axis.values)) != code[column]])
        return np.concatenate(rows)

    def two_changes(self, code: NDArray[np.int64], rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Rows that differ from this one in two knobs drawn at random."""
        rows = np.repeat(code[None, :], count, axis=0)
        for _ in range(2):
            columns = rng.integers(0, len(self.axes), count)
            sizes = np.array([len(axis.values) for axis in self.axes])[columns]
            rows[np.arange(count), columns] = rng.integers(0, sizes)
        return rows


def build_grid(space: Space) -> Grid:
    """The grid of a search space."""
    axes = tuple(_axis(space, name) for name in space.distributions)
    columns = {axis.name: column for column, axis in enumerate(axes)}
    requires = []
    for axis in axes:
        knob = space.knobs[axis.name]
        usual = space.baseline.get(axis.name, knob.default)
        conditions = tuple(
            (
                columns[name],
                frozenset(place for place, value in enumerate(axes[columns[name]].values) if value in values),
            )
            for name, values in knob.requires.items()
            if name in columns
        )
        requires.append((axis.nearest(usual), conditions))
    return Grid(axes, tuple(requires))


def _axis(space: Space, name: str) -> Axis:
    knob = space.knobs[name]
    values = _values(space.distributions[name])
    numbers = [float(value) for value in values if _is_number(value)]  # type: ignore[arg-type]
    if len(numbers) == len(values) and len(values) > 1:
        log = min(numbers) > 0 and (knob.log or max(numbers) / min(numbers) > _LOG_RATIO)
        at = np.log(numbers) if log else np.array(numbers)
        span = (float(at.min()), float(at.max()))
        return Axis(name, values, ((at - at.min()) / (at.max() - at.min()))[:, None], knob.coarse, log, span)
    if len(values) <= 2:
        return Axis(name, values, np.arange(len(values), dtype=np.float64)[:, None], knob.coarse)
    return Axis(name, values, np.eye(len(values)) / math.sqrt(2), knob.coarse)


def _values(distribution: BaseDistribution) -> tuple[Value, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    points = np.geomspace(low, high, RANGE_POINTS) if distribution.log else np.linspace(low, high, RANGE_POINTS)
    if distribution.step and not distribution.log:
        points = np.unique(low + np.round((points - low) / distribution.step) * distribution.step)
        points = points[points <= high]
    if isinstance(distribution, IntDistribution):
        return tuple(int(point) for point in np.unique(np.round(points)))
    return tuple(min(max(float(point), low), high) for point in points)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
