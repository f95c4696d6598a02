"""Proof: a difference is proven when its interval excludes zero, and only then."""

from __future__ import annotations

import math
import random

import pytest

from tuner.search.proof import judge


def test_a_clear_gain_is_proven() -> None:
    verdict = judge([(100, 120), (101, 122), (99, 118)], "maximize")

    assert verdict.proven
    assert verdict.low < verdict.gain < verdict.high
    assert verdict.gain == pytest.approx(0.2, abs=0.01)
    assert "proven better" in verdict.text


def test_noise_is_not_a_gain() -> None:
    verdict = judge([(100, 110), (105, 98), (100, 103)], "maximize")

    assert not verdict.proven
    assert not verdict.settled
    assert "includes zero" in verdict.text


def test_a_single_round_proves_nothing() -> None:
    verdict = judge([(100, 200)], "maximize")

    assert not verdict.proven
    assert verdict.low == -math.inf
    assert "single round" in verdict.text


def test_a_lower_latency_is_a_gain_when_minimising() -> None:
    verdict = judge([(100, 80), (100, 81), (100, 79)], "minimize")

    assert verdict.proven
    assert verdict.gain == pytest.approx(0.2, abs=0.01)


def test_a_drift_that_hits_both_does_not_hide_the_difference() -> None:
    verdict = judge([(100, 105), (80, 84), (60, 63.1)], "maximize")

    assert verdict.proven


@pytest.mark.parametrize("pairs", [[], [(0.0, 1.0)], [(1.0, -1.0)]])
def test_impossible_scores_are_refused(pairs: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="a verdict needs"):
        judge(pairs, "maximize")


def test_equal_servers_are_rarely_called_different() -> None:
    rng = random.Random(7)
    wrong = 0
    for _ in range(1000):
        pairs = [(rng.gauss(100, 3), rng.gauss(100, 3)) for _ in range(4)]
        wrong += judge(pairs, "maximize").settled

    assert wrong / 1000 == pytest.approx(0.05, abs=0.025)
