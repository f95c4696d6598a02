"""Rounds of a closed loop, on loops with known truth: in waves, dispersed, and in between."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.load.rounds import LEAST_ROUNDS, round_ends, rounds_interval, whole_rounds
from tuner.load.steady import batch_interval

SLOTS, TOKENS = 32, 32
BUCKETS_A_SECOND = 40


def closed_loop(
    rng: np.random.Generator, seconds: float, *, together: float, own: float, mean_s: float = 2.4
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of requests and tokens per bucket of a closed loop.

    A quarter of a request's time is its prompt, and its tokens come in the rest. `together` and `own` are standard deviations of
    a request's time, as shares: of what all requests of a wave have in common, and of what each has by itself.
    """
    waves = int(seconds / mean_s) + 3
    common = rng.normal(1, together, (waves, 1))
    times_s = mean_s * common * np.maximum(rng.normal(1, own, (waves, SLOTS)), 0.05)
    ends_s = np.cumsum(times_s, axis=0)
    starts_s = ends_s - times_s
    counted = np.zeros(int(seconds * BUCKETS_A_SECOND))
    moments = starts_s[..., None] + times_s[..., None] * np.linspace(0.25, 1, TOKENS)
    places = (moments * BUCKETS_A_SECOND).astype(int).ravel()
    np.add.at(counted, places[places < len(counted)], 1)
    inside = np.sort(ends_s.ravel())
    return inside[inside < seconds], counted


def edges_of(ends_s: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(
        round_ends((ends_s * 1e9).astype(int).tolist(), SLOTS) * (BUCKETS_A_SECOND / 1e9), dtype=np.float64
    )


@pytest.mark.parametrize(
    ("together", "own"),
    [(0.02, 0.0), (0.02, 0.005), (0.0, 0.1), (0.0, 0.4)],
    ids=["waves", "ragged", "loose", "dispersed"],
)
def test_the_interval_holds_the_true_rate_about_as_often_as_it_says(together: float, own: float) -> None:
    rng = np.random.default_rng(11)
    truth = SLOTS * TOKENS / 2.4 / BUCKETS_A_SECOND
    intervals = []
    for _ in range(150):
        ends_s, counted = closed_loop(rng, 24, together=together, own=own)
        intervals.append(rounds_interval(counted, edges_of(ends_s)))
    told = [interval for interval in intervals if interval.batches]
    assert len(told) > 100
    assert np.mean([abs(interval.center - truth) <= interval.half_width for interval in told]) >= 0.88


def test_waves_are_known_from_rounds_long_before_buckets_of_time_tell() -> None:
    rng = np.random.default_rng(3)
    ends_s, counted = closed_loop(rng, 24, together=0.02, own=0.0)

    rounds, buckets = rounds_interval(counted, edges_of(ends_s)), batch_interval(counted)

    assert rounds.relative < 0.03
    assert buckets.relative > 0.1


def test_a_window_of_whole_rounds_repeats_better_than_one_of_a_given_length() -> None:
    rng = np.random.default_rng(5)
    cut: list[float] = []
    uncut: list[float] = []
    for _ in range(100):
        ends_s, counted = closed_loop(rng, 12, together=0.01, own=0.0)
        rounds_ns = round_ends((ends_s * 1e9).astype(int).tolist(), SLOTS)
        opens_ns = int(rng.uniform(0, 3) * 1e9)
        for windows, (start_ns, end_ns) in (
            (cut, whole_rounds(rounds_ns, opens_ns, opens_ns + int(8e9))),
            (uncut, (opens_ns, opens_ns + int(8e9))),
        ):
            first, last = (int(moment_ns / 1e9 * BUCKETS_A_SECOND) for moment_ns in (start_ns, end_ns))
            windows.append(counted[first:last].sum() / (last - first))

    assert np.std(cut) < 0.5 * np.std(uncut)


def test_rounds_count_from_the_beginning_of_the_level() -> None:
    assert list(round_ends([5, 1, 2, 4, 3, 6, 7], 2)) == [2, 4, 6]


@pytest.mark.parametrize(
    ("start", "end", "whole"),
    [
        (0, 100, (10, 90)),
        (10, 90, (10, 90)),
        (35, 79, (40, 70)),
        (41, 49, (41, 49)),
        (41, 62, (41, 62)),
        (200, 300, (200, 300)),
    ],
)
def test_a_window_is_cut_to_whole_rounds_unless_too_little_would_be_left(
    start: int, end: int, whole: tuple[int, int]
) -> None:
    assert whole_rounds(np.arange(10, 100, 10), start, end) == whole


def test_a_few_rounds_say_nothing() -> None:
    assert rounds_interval(np.ones(100), np.linspace(0, 50, LEAST_ROUNDS)).half_width == inf
    assert rounds_interval(np.empty(0), np.empty(0)).half_width == inf
