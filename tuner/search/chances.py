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
    for row, blamed in zip(failed, accused, strict=True):
        chance = chance * (1 - _CERTAIN * _suspicion(candidates, worked, row, blamed))
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
    differing = (candidates[:, None, :] != rows[None, :, :]).mean(axis=2)
    weight: Array = np.exp(-_NEAR * differing * candidates.shape[1] / 2).sum(axis=1)
    return weight


def _suspicion(candidates: Codes, worked: Codes, failed: NDArray[np.int64], blamed: tuple[int, ...]) -> Array:
    """Share of a failure's suspects that each candidate has in common with it."""
    shared = candidates == failed
    seen = worked == failed
    count = len(failed)
    weights = np.ones(count)
    weights[list(blamed)] = _ACCUSED
    pair_weights = weights[:, None] * weights[None, :]
    pairs_seen = (
        (seen[:, :, None] & seen[:, None, :]).any(axis=0) if len(worked) else np.zeros((count, count), np.bool_)
    )
    pair_weights = np.where(pairs_seen, 0.0, pair_weights)
    singles = pair_weights.diagonal() * _SINGLE
    pair_weights = np.triu(pair_weights, 1)
    total = pair_weights.sum() + singles.sum()
    if total <= 0:
        return np.zeros(len(candidates))
    flags = shared.astype(np.float64)
    common: Array = (np.einsum("ij,jk,ik->i", flags, pair_weights, flags) + flags @ singles) / total
    return common
