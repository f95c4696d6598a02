"""Correlations between configurations: Matérn 5/2 over the coarse knobs, over the fine ones together, and over each by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_PRODUCT_SHARE: Final = 0.5
"""Share of what fine knobs do, together or one by one, that depends on the coarse ones."""

_MANY: Final = 64


class Correlations:
    """Between two sets of points, for any length scales; what was worked out once is kept."""

    def __init__(
        self, one: Sequence[Array], other: Sequence[Array], coarse: Sequence[int], fine: Sequence[int]
    ) -> None:
        """Measure the distances.

        Args:
            one: Coordinates of the points of the one set, one array per axis.
            other: Those of the other.
            coarse: Axes of the coarse part.
            fine: All others.
        """
        self._squares = np.stack([_squares(mine, theirs) for mine, theirs in zip(one, other, strict=True)])
        self._coarse, self._fine = tuple(coarse), tuple(fine)
        self._one = list(one)
        self._rows: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self._single: dict[tuple[int, float], Array] = {}
        self._groups: dict[tuple[tuple[int, ...], tuple[float, ...]], Array] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Points of the one set, points of the other."""
        return int(self._squares.shape[1]), int(self._squares.shape[2])

    def parts(self, scales: Sequence[Sequence[float]]) -> Array:
        """The three parts (coarse; fine together; fine one by one, their mean) for some choices of length scales.

        Args:
            scales: A length scale of each axis, for every choice.

        Returns:
            By choice, part and the two points.
        """
        found = np.zeros((len(scales), 3, *self.shape))
        coarse = self._together(self._coarse, scales)
        fine = self._together(self._fine, scales)
        for place, lengths in enumerate(scales):
            if self._coarse:
                found[place, 0] = coarse[place]
            share = 1 - _PRODUCT_SHARE + _PRODUCT_SHARE * coarse[place] if self._coarse else 1.0
            if self._fine:
                found[place, 1] = fine[place] * share
                for axis in self._fine:
                    found[place, 2] += self._alone(axis, lengths[axis])
                found[place, 2] *= share
        found[:, 2] /= max(len(self._fine), 1)
        return found

    def _together(self, axes: tuple[int, ...], scales: Sequence[Sequence[float]]) -> list[Array]:
        """Of some axes together, for every choice of scales."""
        if not axes:
            return []
        keys = [(axes, tuple(lengths[axis] for axis in axes)) for lengths in scales]
        new = [key for key in dict.fromkeys(keys) if key not in self._groups]
        if new:
            inverse = np.array([lengths for _, lengths in new]) ** -2.0
            flat = self._squares[list(axes)].reshape(len(axes), -1)
            made = matern((inverse @ flat).reshape(len(new), *self.shape))
            self._groups.update(zip(new, made, strict=True))
        return [self._groups[key] for key in keys]

    def _alone(self, axis: int, scale: float) -> Array:
        if (axis, scale) not in self._single:
            squares = self._squares[axis]
            if len(squares) > _MANY:
                # Many points share few values of a knob: one row of each is enough.
                first, place = self._distinct(axis)
                self._single[axis, scale] = matern(squares[first] / scale**2)[place]
            else:
                self._single[axis, scale] = matern(squares / scale**2)
        return self._single[axis, scale]

    def _distinct(self, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A row for each different coordinate on an axis, and which of them each row has."""
        if axis not in self._rows:
            coordinates = self._one[axis]
            plain = coordinates[:, 0] if coordinates.shape[1] == 1 else coordinates
            _, first, place = np.unique(plain, axis=0, return_index=True, return_inverse=True)
            self._rows[axis] = first, place.ravel()
        return self._rows[axis]


def _squares(one: Array, other: Array) -> Array:
    """Squared distances between all rows of two arrays of coordinates."""
    if one.shape[1] == 1:
        difference: Array = one - other.T
        return difference * difference
    squares: Array = ((one[:, None, :] - other[None, :, :]) ** 2).sum(axis=2)
    return squares


def matern(squared: Array) -> Array:
    """Matérn 5/2 of a squared scaled distance."""
    distance = np.sqrt(5.0 * squared)
    correlation: Array = (1 + distance + distance * distance / 3) * np.exp(-distance)
    return correlation
