"""Scores: the best level that meets every limit, or the one that breaks them least."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.records import Metrics
from sessions.slo import Slo
from tuner.search.objective import Objective, score_levels

SLO = Slo("ttft", "p99", "<=", 100.0)
MOST = Objective("output_token_throughput", "avg", "maximize", (SLO,))
LEAST = Objective("e2e", "p50", "minimize")


def result(throughput: float, ttft: float, e2e: float = 1.0) -> Metrics:
    return {"output_token_throughput": {"avg": throughput}, "ttft": {"p99": ttft}, "e2e": {"p50": e2e}}


def test_the_best_level_within_the_limits_gives_the_score() -> None:
    score = score_levels(MOST, [result(10, 50), result(30, 90), result(90, 200)])

    assert (score.value, score.level, score.feasible, score.violation) == (30, 1, True, 0)


def test_without_a_level_within_the_limits_the_least_broken_one_counts() -> None:
    score = score_levels(MOST, [result(10, 150), result(90, 400)])

    assert (score.value, score.feasible) == (10, False)
    assert score.violation == pytest.approx(0.5)


def test_invalid_levels_and_missing_values_give_no_score() -> None:
    assert score_levels(MOST, [None, {}, {"output_token_throughput": {"avg": math.nan}}]).value is None


def test_a_limit_on_something_unmeasured_is_broken() -> None:
    assert MOST.violation({"output_token_throughput": {"avg": 5.0}}) == 1.0


@pytest.mark.parametrize(("op", "feasible"), [("<=", True), ("<", False)])
def test_a_value_on_the_limit_meets_it_or_not_as_the_operator_says(op: str, feasible: bool) -> None:
    objective = Objective("output_token_throughput", "avg", "maximize", (Slo("error_ratio", "avg", op, 0.01),))

    score = score_levels(objective, [{"output_token_throughput": {"avg": 5.0}, "error_ratio": {"avg": 0.01}}])

    assert score.feasible is feasible


def test_less_is_better_when_minimising() -> None:
    assert score_levels(LEAST, [result(1, 1, 8), result(1, 1, 5)]).value == 5
    assert LEAST.gain(5, 10) == pytest.approx(0.5)
    assert LEAST.better(4, 5)


def test_the_same_value_is_no_loss_when_minimising() -> None:
    assert f"{Objective('ttft', 'p99', 'minimize').gain(30.0, 30.0):+.1%}" == "+0.0%"


def test_a_value_is_shown_with_its_statistic_and_unit() -> None:
    assert Objective("ttft", "p99", "minimize").shown(30.912) == "ttft p99 30.91 ms"
    assert (
        Objective("output_token_throughput", "avg", "maximize").shown(217.73)
        == "output_token_throughput 217.7 tokens/s"
    )


def test_a_gain_over_nothing_is_unknown() -> None:
    assert math.isnan(MOST.gain(5, 0))


@given(st.lists(st.tuples(st.floats(0.1, 1e5), st.floats(0.1, 1e4)), min_size=1, max_size=8))
def test_no_level_within_the_limits_beats_the_chosen_one(levels: list[tuple[float, float]]) -> None:
    score = score_levels(MOST, [result(*level) for level in levels])

    within = [throughput for throughput, ttft in levels if ttft <= SLO.value]
    assert score.feasible == bool(within)
    if within:
        assert score.value == max(within)
