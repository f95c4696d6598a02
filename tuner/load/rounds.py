"""Rounds of a closed loop: as many ends of requests as there are requests in flight.

A server works through the requests of a closed loop in waves: all prompts, then all tokens of all of them. A window that ends
in the middle of a wave holds too much of the one or the other (13 % between repeats of three waves, seen with vLLM on an
H100), and the tokens of one bucket of time say little about those of the next. Whole rounds are alike. Where the waves have
dispersed, a round is a batch of requests like any other.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from sessions.batches import are_correlated, student_t
from tuner.load.steady import CONFIDENCE, MIN_BATCHES, MIN_PER_BATCH, Interval, batch_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEAST_ROUNDS: Final = 6
"""Fewer rounds say nothing about how much they differ."""

LEAST_SHARE: Final = 0.5
"""A window is cut to whole rounds as long as this share of it is left."""


def round_ends(ends_ns: Sequence[int], slots: int) -> NDArray[np.int64]:
    """When the rounds of a level ended.

    Args:
        ends_ns: When its requests ended, since its start, in any order.
        slots: Requests in flight.
    """
    ordered: NDArray[np.int64] = np.sort(np.asarray(ends_ns, dtype=np.int64))
    return ordered[slots - 1 :: slots]


def whole_rounds(rounds_ns: NDArray[np.int64], start_ns: int, end_ns: int) -> tuple[int, int]:
    """The longest part of a window that holds whole rounds only; the window as it is, where too little of it would be left.

    Args:
        rounds_ns: When the rounds ended.
        start_ns: When the window opens.
        end_ns: When it closes.
    """
    inside = rounds_ns[(rounds_ns >= start_ns) & (rounds_ns <= end_ns)]
    if len(inside) < 2 or inside[-1] - inside[0] < LEAST_SHARE * (end_ns - start_ns):
        return start_ns, end_ns
    return int(inside[0]), int(inside[-1])


def rounds_interval(counted: NDArray[np.float64], edges: NDArray[np.float64]) -> Interval:
    """Confidence interval of a rate from what was counted in each round.

    Student's t over the rounds; over batches of them (`tuner.load.steady.batch_interval`) where there are enough.

    Args:
        counted: Per bucket of time.
        edges: Ends of rounds, in buckets since the first one; the first edge opens the first round.

    Returns:
        The interval of the rate per bucket; without an end when there are too few rounds, or they depend on each other.
    """
    if len(edges) <= LEAST_ROUNDS:
        return Interval(float(counted.mean()) if len(counted) else 0.0, inf, 0)
    sums = np.interp(edges, np.arange(len(counted) + 1), np.concatenate([[0.0], np.cumsum(counted)]))
    amounts, lengths = np.diff(sums), np.diff(edges)
    rates = amounts / np.maximum(lengths, 1e-9)
    if len(rates) >= MIN_BATCHES * MIN_PER_BATCH:
        return batch_interval(rates)
    center = float(amounts.sum() / lengths.sum())
    if are_correlated(rates):
        return Interval(center, inf, 0)
    # Of a ratio of two sums: what a round counts beyond what its length lets expect (Cochran, Sampling Techniques, 6.4).
    beyond = (amounts - center * lengths) / lengths.mean()
    return Interval(
        center, student_t(CONFIDENCE, len(rates) - 1) * float(beyond.std(ddof=1)) / sqrt(len(rates)), len(rates)
    )
