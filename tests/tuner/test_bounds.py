"""Bounds: never below what can be reached, and tight enough to leave what cannot win."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.slo import Slo
from tuner.search.bounds import OVERWHELMED, best_still_possible, eased_by_load, worth_going_on
from tuner.search.levels import Measured
from tuner.search.objective import Objective

THROUGHPUT = Objective("output_token_throughput", "avg", "maximize")
COST = Objective("cost_per_million_output_tokens", "avg", "minimize")
LATENCY = Objective("ttft", "p99", "minimize")
LOADS = st.lists(st.integers(1, 256), min_size=1, max_size=4, unique=True)


def throughput(load: float, saturation: float) -> float:
    return load / (1 + load / saturation)


@given(st.floats(2, 500), LOADS)
def test_the_bound_of_throughput_is_never_below_what_can_be_reached(saturation: float, loads: list[int]) -> None:
    measured = [Measured(load, throughput(load, saturation), 0.0) for load in loads]

    bound = best_still_possible(THROUGHPUT, measured, 1, 256)

    assert bound >= max(throughput(load, saturation) for load in range(1, 257))


@given(st.floats(2, 500), LOADS)
def test_the_bound_of_cost_is_never_above_what_can_be_reached(saturation: float, loads: list[int]) -> None:
    measured = [Measured(load, 1 / throughput(load, saturation), 0.0) for load in loads]

    bound = best_still_possible(COST, measured, 1, 256)

    assert bound <= min(1 / throughput(load, saturation) for load in range(1, 257))


def test_nothing_is_ruled_out_before_anything_is_known() -> None:
    assert best_still_possible(THROUGHPUT, [], 1, 64) == math.inf
    assert best_still_possible(THROUGHPUT, [Measured(8, None, 1.0)], 1, 64) == math.inf
    assert best_still_possible(COST, [], 1, 64) == -math.inf


def test_a_broken_level_caps_what_is_possible() -> None:
    measured = [Measured(8, 80.0, 0.0, uncertainty=0.0), Measured(16, 120.0, 0.4)]

    assert best_still_possible(THROUGHPUT, measured, 1, 256) == pytest.approx(160)


def test_a_broken_least_throughput_caps_nothing() -> None:
    measured = [Measured(8, 80.0, 0.0, uncertainty=0.0), Measured(16, 120.0, 0.4, too_light=True)]

    assert best_still_possible(THROUGHPUT, measured, 1, 32) == pytest.approx(320)


def test_a_latency_cannot_become_shorter_under_a_heavier_load() -> None:
    measured = [Measured(8, 100.0, 0.0, uncertainty=0.1)]

    assert best_still_possible(LATENCY, measured, 8, 256) == pytest.approx(90)
    assert best_still_possible(LATENCY, measured, 1, 256) == -math.inf, "a lighter one is still to come"


def test_an_uncertain_level_bounds_less() -> None:
    certain = [Measured(8, 80.0, 0.0, uncertainty=0.01)]
    vague = [Measured(8, 80.0, 0.0, uncertainty=0.2)]

    assert best_still_possible(THROUGHPUT, certain, 1, 16) < best_still_possible(THROUGHPUT, vague, 1, 16)


def test_nothing_is_claimed_of_a_metric_without_a_law() -> None:
    goodput = Objective("goodput", "avg", "maximize")

    assert best_still_possible(goodput, [Measured(8, 1.0, 0.0)], 1, 16) == math.inf


def test_a_heavier_load_helps_only_limits_on_what_grows() -> None:
    assert eased_by_load(Slo.parse("output_token_throughput:avg:>=:100"))
    assert eased_by_load(Slo.parse("energy_per_output_token:avg:<=:1"))
    assert not eased_by_load(Slo.parse("ttft:p99:<=:100"))


def test_what_is_slow_where_it_is_too_heavy_is_not_measured_lighter() -> None:
    heavy = [Measured(64, 100.0, 0.5, uncertainty=0.0)]

    assert best_still_possible(THROUGHPUT, heavy, 8, 256) == pytest.approx(100 * OVERWHELMED)
    assert worth_going_on(THROUGHPUT, heavy, 8, 256, incumbent=150.0) == "hopeless"
    assert worth_going_on(THROUGHPUT, heavy, 8, 256, incumbent=110.0) == "yes"


def test_a_trial_ends_when_nothing_beats_what_it_has_reached_itself() -> None:
    at_the_top = [Measured(256, 100.0, 0.0, uncertainty=0.0)]

    assert worth_going_on(THROUGHPUT, at_the_top, 8, 256, incumbent=90.0) == "done"
    assert worth_going_on(THROUGHPUT, at_the_top, 8, 512, incumbent=90.0) == "yes"
