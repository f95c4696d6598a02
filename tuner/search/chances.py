"""How likely a configuration starts, and how likely it passes the quality gate, from what did and did not so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

_NEAR: Final = 3.0
"""Steepness of the weight of a neighbour: exp(-_NEAR x share of knobs that differ)."""

_START_PRIOR: Final = 2.0
_START_PRIOR_CHANCE: Final = 0.95
_CERTAIN: Final = 0.9
"""How sure it is that one of a failure's suspects caused it."""

_ACCUSED: Final = 4.0
_SINGLE: Final = 1.5
_GATE_PRIOR_CHANCE: Final = 0.9
_AT_ONCE: Final = 32
"""Failures that are looked at together, so that the tables stay small."""


def chance_to_start(candidates: Codes, worked: Codes, failed: Codes, accused: Sequence[tuple[int, ...]]) -> Array:
    """Chance of each candidate to start and to give a result.

    Neighbours of failures are less likely to work. So are configurations that share a value, or a pair of values, with a failure
    that has never been seen to work: one of these must be its cause.

    Args:
        candidates: Rows of codes.
        worked: Rows that gave a result.
        failed: Rows that did not, because of their settings.
        accused: Of each failed row: the columns its log line blames.
    """
    if not len(failed):
        return np.ones(len(candidates))
    chance = _by_neighbours(candidates, worked, failed)
    for begin in range(0, len(failed), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        for common in _suspicions(candidates, worked, failed[part], accused[part]):
            chance = chance * (1 - _CERTAIN * common)
    return chance


def chance_to_pass(candidates: Codes, judged: Codes, passed: NDArray[np.bool_], columns: Sequence[int]) -> Array:
    """Chance of each candidate to pass the quality gate: that of the configurations with the same precision.

    Args:
        candidates: Rows of codes.
        judged: Rows that went through the gate.
        passed: Whether they passed.
        columns: The coarse columns; the others do not change what a model answers.
    """
    if not len(judged) or passed.all():
        return np.ones(len(candidates))
    chance = np.ones(len(candidates))
    for column in columns:
        same = candidates[:, column][:, None] == judged[:, column][None, :]
        good = (same & passed).sum(axis=1)
        total = same.sum(axis=1)
        chance = np.minimum(chance, (good + _GATE_PRIOR_CHANCE * 0.5) / (total + 0.5))
    return chance


def _by_neighbours(candidates: Codes, worked: Codes, failed: Codes) -> Array:
    good = _weight(candidates, worked)
    bad = _weight(candidates, failed)
    chance: Array = (_START_PRIOR * _START_PRIOR_CHANCE + good) / (_START_PRIOR + good + bad)
    return chance


def _weight(candidates: Codes, rows: Codes) -> Array:
    if not len(rows):
        return np.zeros(len(candidates))
    count = candidates.shape[1]
    differing = (count - _in_common(candidates, rows)) / count
    weight: Array = np.exp(-_NEAR * differing * candidates.shape[1] / 2).sum(axis=1)
    return weight


def _in_common(candidates: Codes, rows: Codes) -> Array:
    """How many values each candidate shares with each row."""
    common = np.zeros((len(candidates), len(rows)))
    for column in range(candidates.shape[1]):
        codes = np.arange(1 + max(candidates[:, column].max(), rows[:, column].max()))
        ones, others = candidates[:, column, None] == codes, rows[:, column, None] == codes
        common += ones.astype(np.float64) @ others.astype(np.float64).T
    return common


def _suspicions(candidates: Codes, worked: Codes, failed: Codes, accused: Sequence[tuple[int, ...]]) -> Array:
    """Share of each failure's suspects that each candidate has in common with it: a row per failure."""
    seen = (worked[None, :, :] == failed[:, None, :]).astype(np.float64)
    weights = np.ones(failed.shape)
    for row, blamed in zip(weights, accused, strict=True):
        row[list(blamed)] = _ACCUSED
    pairs = weights[:, :, None] * weights[:, None, :]
    pairs[seen.swapaxes(1, 2) @ seen > 0] = 0.0
    singles = pairs.diagonal(axis1=1, axis2=2) * _SINGLE
    pairs = np.triu(pairs, 1)
    total = pairs.sum(axis=(1, 2)) + singles.sum(axis=1)
    flags = (candidates[None, :, :] == failed[:, None, :]).astype(np.float64)
    common: Array = ((flags @ pairs) * flags).sum(axis=2) + (flags @ singles[:, :, None])[:, :, 0]
    common /= np.where(total > 0, total, 1.0)[:, None]
    return common
