"""Several objectives at once: which points nothing beats, how much they cover, and one number to search by.

Utilities (`utility.py`) are used throughout: more is better in each of them. The area that the points cover beyond a reference, the
hypervolume, is the mean over directions of how far the points reach in each (Zhang and Golovin 2020). So the gain in hypervolume
that a configuration promises is a weighted sum of its expected improvements over a few directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_DIRECTIONS: Final = 7
"""Directions a proposal is judged by."""

_MARGIN: Final = 0.1
"""The reference lies this share of the front's extent below the worst of it, so that its ends count too."""

_LEAST_EXTENT: Final = 0.2
"""Extent of a front of a single point, in utility."""


def front_places(points: Array) -> NDArray[np.int64]:
    """Places of the points that no other one beats, by the first utility; of equal ones the first.

    Args:
        points: Utilities, a row per point.
    """
    kept: list[int] = []
    for place, point in enumerate(points):
        at_least = (points >= point).all(axis=1)
        beaten = (at_least & (points > point).any(axis=1)).any()
        twin = any((points[other] == point).all() for other in kept)
        if not beaten and not twin:
            kept.append(place)
    return np.array(sorted(kept, key=lambda place: -points[place, 0]), dtype=np.int64)


def hypervolume(points: Array, reference: Array) -> float:
    """Volume that the points cover beyond a reference: exact, by slices along the last axis.

    Args:
        points: Utilities, a row per point.
        reference: Utilities of the corner that counts as nothing.
    """
    inside = points[(points > reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if points.shape[1] == 1:
        return float(inside.max() - reference[0])
    levels = np.unique(inside[:, -1])[::-1]
    below = np.append(levels[1:], reference[-1])
    return sum(
        float(level - lower) * hypervolume(inside[inside[:, -1] >= level, :-1], reference[:-1])
        for level, lower in zip(levels, below, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Directions:
    """How several utilities become a few numbers to search by, one per direction.

    Attributes:
        weights: A row per direction: by how much each utility counts, the largest weight 1.
        reference: Utilities that count as nothing.
    """

    weights: Array
    reference: Array

    @classmethod
    def towards(cls, points: Array, turn: int = 0) -> Directions:
        """Directions spread over the front of some points, turned a little with every proposal.

        Args:
            points: Utilities of what is known; a row per point, a column per objective.
            turn: Number of the proposal.
        """
        front = points[front_places(points)]
        extent = np.maximum(front.max(axis=0) - front.min(axis=0), _LEAST_EXTENT)
        reference = front.min(axis=0) - _MARGIN * extent
        spread = _spread(points.shape[1], turn) * extent
        return cls(spread.min(axis=1, keepdims=True) / spread, reference)

    def reach(self, points: Array) -> Array:
        """How far points reach in each direction: the last axis of `points` becomes one of directions."""
        beyond = points - self.reference
        reached: Array = (beyond[..., None, :] * self.weights).min(axis=-1)
        return reached

    def gain(self, improvement: Array, best: Array) -> Array:
        """Gain in hypervolume, up to a constant, from improvements of the reach in each direction.

        Args:
            improvement: Expected improvements, a column per direction.
            best: How far is reached already in each direction.
        """
        count = self.weights.shape[1]
        # The volume in a direction grows with the power of the reach; the widest utility of a direction sets its scale.
        slope = np.maximum(best, 0.05) ** (count - 1) / self.weights.prod(axis=1)
        total: Array = (improvement * slope).sum(axis=1)
        return total


def _spread(count: int, turn: int) -> Array:
    """Unit vectors over the positive part of the sphere: evenly on the circle, quasi-random beyond."""
    if count == 2:
        shift = (turn * 0.618) % 1.0
        angles = (np.arange(_DIRECTIONS) + 0.15 + 0.7 * shift) / _DIRECTIONS * math.pi / 2
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vectors = np.abs(np.random.default_rng((count, turn)).normal(size=(_DIRECTIONS, count))) + 0.05
    vectors[0] = 1.0
    unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def knee(points: Array) -> int:
    """Place of the most balanced of some points: the one that reaches furthest when every objective counts alike."""
    directions = Directions.towards(points)
    front = points[front_places(points)]
    extent = np.maximum(front.max(axis=0) - front.min(axis=0), _LEAST_EXTENT)
    return int((((points - directions.reference) / extent).min(axis=1)).argmax())


def utilities_of(values: Sequence[Sequence[float]], maximise: Sequence[bool]) -> Array:
    """Values of several objectives so that more is better, on the logarithmic scale where none is negative.

    Args:
        values: A row per point, a value per objective.
        maximise: Of each objective: whether more is better.
    """
    table = np.array(values, dtype=np.float64).reshape(len(values), len(maximise))
    signs = np.where(np.array(maximise), 1.0, -1.0)
    positive = (table > 0).all(axis=0) if len(table) else np.ones(len(maximise), np.bool_)
    logs = np.log(np.maximum(table, 1e-12))
    return np.where(positive, logs, table) * signs
