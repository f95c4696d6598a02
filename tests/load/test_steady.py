"""Steadiness on series with known truth: independent values, AR(1), a start-up transient, a trend, a step."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from numpy.typing import NDArray

from sessions.batches import student_t
from tuner.load.steady import batch_interval, warmup_length


def ar1(rng: np.random.Generator, count: int, correlation: float, mean: float = 100.0) -> NDArray[np.float64]:
    """A series with standard deviation 10 whose neighbours correlate as given."""
    noise = rng.normal(0, 10 * np.sqrt(1 - correlation**2), count)
    values = np.empty(count)
    values[0] = rng.normal(0, 10)
    for place in range(1, count):
        values[place] = correlation * values[place - 1] + noise[place]
    return values + mean


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.70620), (2, 4.302653), (3, 3.182446), (7, 2.364624), (15, 2.131450), (200, 1.971896), (1e5, 1.959988)],
)
def test_student_t(freedom: float, quantile: float) -> None:
    assert student_t(0.95, freedom) == pytest.approx(quantile, rel=1e-6)


def test_student_t_lies_between_its_neighbours_for_a_fraction_of_a_degree() -> None:
    assert student_t(0.95, 3) < student_t(0.95, 2.5) < student_t(0.95, 2)


@pytest.mark.parametrize(("correlation", "count", "least"), [(0.0, 640, 0.90), (0.5, 1280, 0.88), (0.9, 5120, 0.85)])
def test_the_interval_holds_the_true_mean_about_as_often_as_it_says(
    correlation: float, count: int, least: float
) -> None:
    rng = np.random.default_rng(7)
    intervals = [batch_interval(ar1(rng, count, correlation)) for _ in range(300)]
    covered = np.mean([abs(interval.center - 100) <= interval.half_width for interval in intervals])
    assert least <= covered <= 0.99


def test_taking_correlated_values_for_independent_ones_would_cover_far_less() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        values = ar1(rng, 5120, 0.9)
        covered += abs(values.mean() - 100) <= 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert covered / 300 < 0.6


def test_the_interval_narrows_with_the_root_of_the_length() -> None:
    rng = np.random.default_rng(1)
    short = np.mean([batch_interval(ar1(rng, 500, 0.3)).half_width for _ in range(50)])
    long = np.mean([batch_interval(ar1(rng, 8000, 0.3)).half_width for _ in range(50)])
    assert short / long == pytest.approx(4.0, rel=0.35)


def test_a_percentile_has_an_interval_too() -> None:
    rng = np.random.default_rng(5)
    truth = 10 * np.log(10)
    intervals = [batch_interval(rng.exponential(10, 4000), "p90") for _ in range(200)]
    covered = np.mean([abs(interval.center - truth) <= interval.half_width for interval in intervals])
    assert covered >= 0.85


@pytest.mark.parametrize("count", [0, 1, 10])
def test_too_few_values_say_nothing(count: int) -> None:
    assert batch_interval(np.ones(count)).half_width == inf
    assert warmup_length(np.ones(count)) is None


def test_equal_values_are_known_exactly() -> None:
    interval = batch_interval(np.full(100, 5.0))
    assert interval.center == 5.0
    assert interval.half_width == 0.0
    assert interval.relative == 0.0


def test_a_start_up_transient_is_cut_off() -> None:
    rng = np.random.default_rng(3)
    cuts = []
    for _ in range(50):
        values = ar1(rng, 1000, 0.3)
        values[:200] += 80 * np.exp(-np.arange(200) / 40)
        cut = warmup_length(values)
        assert cut is not None
        cuts.append(cut)
    assert 60 <= np.median(cuts) <= 260


def test_a_step_is_cut_off_where_it_happens() -> None:
    rng = np.random.default_rng(3)
    values = ar1(rng, 1000, 0.0)
    values[:300] -= 60
    assert warmup_length(values) == pytest.approx(300, abs=10)


def test_a_steady_series_is_hardly_cut() -> None:
    rng = np.random.default_rng(9)
    cuts = [warmup_length(rng.normal(100, 10, 1000)) for _ in range(100)]
    kept = [cut for cut in cuts if cut is not None]
    assert len(kept) >= 85
    assert np.median(kept) <= 100


def test_a_trend_is_not_steady() -> None:
    rng = np.random.default_rng(9)
    steady = [warmup_length(np.linspace(0, 200, 1000) + rng.normal(0, 10, 1000)) is not None for _ in range(50)]
    assert not any(steady)


@pytest.mark.parametrize("stat", ["min", "max", "std", "count"])
def test_an_extreme_is_never_known_precisely(stat: str) -> None:
    assert batch_interval(np.full(5000, 5.0), stat).relative == inf
