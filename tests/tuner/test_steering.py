"""What an operator may change of a search under way, and what is refused with a clear word."""

from __future__ import annotations

from typing import Any

import pytest

from engines.registry import get_engine
from tuner.errors import BadPlan
from tuner.plan import KnobRange, Plan
from tuner.steering import domain_words, with_objective, with_range

ENGINE = get_engine("trtllm")
PLAN = Plan.model_validate(
    {
        "engine": {"model": "llama-3.1-8b"},
        "objective": {"metric": "output_token_throughput", "slos": ["ttft:p99:<=:500"]},
        "knobs": {"max_batch_size": [8, 16, 32], "enable_chunked_prefill": [False, True]},
    }
)


def test_a_range_takes_the_place_of_the_one_before() -> None:
    changed = with_range(PLAN, ENGINE, {"knob": "max_batch_size", "domain": {"low": 8, "high": 256, "log": True}})

    assert changed.knobs["max_batch_size"] == KnobRange(low=8, high=256, log=True)
    assert changed.knobs["enable_chunked_prefill"] == (False, True)


@pytest.mark.parametrize(
    ("domain", "told"),
    [({"low": "8", "high": "256"}, "8 to 256"), ([8, 16], "8, 16"), (16, "held at 16")],
)
def test_a_domain_is_told_in_words_as_the_plan_took_it(domain: object, told: str) -> None:
    changed = with_range(PLAN, ENGINE, {"knob": "max_batch_size", "domain": domain})

    assert domain_words(changed.knobs["max_batch_size"]) == told


def test_one_value_holds_a_knob() -> None:
    assert with_range(PLAN, ENGINE, {"knob": "max_batch_size", "domain": 16}).knobs["max_batch_size"] == 16


def test_without_knobs_of_its_own_a_plan_keeps_the_engines_usual_ones() -> None:
    usual = PLAN.model_copy(update={"knobs": {}})

    changed = with_range(usual, ENGINE, {"knob": "max_batch_size", "domain": [8, 16]})

    assert changed.knobs["max_batch_size"] == (8, 16)
    assert set(changed.knobs) >= {knob.name for knob in ENGINE.knobs() if knob.searched}


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ({}, "which knob"),
        ({"knob": "max_batch_size"}, "which knob"),
        ({"knob": "max_bach_size", "domain": [1]}, "did you mean max_batch_size"),
        ({"knob": "max_batch_size", "domain": {"low": 9, "high": 8}}, "must be below"),
        ({"knob": "max_batch_size", "domain": [-4]}, "max_batch_size"),
        ({"knob": "max_batch_size", "domain": []}, "empty"),
    ],
)
def test_a_wrong_range_is_refused(args: dict[str, Any], word: str) -> None:
    with pytest.raises(BadPlan, match=word):
        with_range(PLAN, ENGINE, args)


def test_the_last_searched_knob_cannot_be_held() -> None:
    held = with_range(PLAN, ENGINE, {"knob": "enable_chunked_prefill", "domain": True})

    with pytest.raises(BadPlan, match="nothing to search"):
        with_range(held, ENGINE, {"knob": "max_batch_size", "domain": 8})


def test_limits_can_change_alone() -> None:
    (objective,) = with_objective(PLAN, {"slos": ["tpot:p99:<=:30"]}).to_objectives()

    assert objective.metric == "output_token_throughput"
    assert [str(slo) for slo in objective.slos] == ["tpot p99 <= 30 ms"]


def test_a_new_metric_keeps_the_limits_and_takes_its_own_direction() -> None:
    (objective,) = with_objective(PLAN, {"metric": "e2e", "stat": "p99"}).to_objectives()

    assert (objective.stat, objective.direction) == ("p99", "minimize")
    assert [str(slo) for slo in objective.slos] == ["ttft p99 <= 500 ms"]


def test_limits_may_be_written_as_the_session_keeps_them() -> None:
    slo = {"metric": "ttft", "stat": "p99", "op": "<=", "value": 250.0, "label": "ttft p99 <= 250 ms"}

    assert with_objective(PLAN, {"slos": [slo]}).objective.slos == ("ttft:p99:<=:250.0",)


def test_a_preset_replaces_everything() -> None:
    (objective,) = with_objective(PLAN, {"preset": "latency"}).to_objectives()

    assert objective.metric == "e2e"
    assert "ttft" not in objective.label


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ({}, "nothing"),
        ({"metric": "speed"}, "unknown"),
        ({"metric": "ttft", "stat": "p42"}, "no statistic"),
        ({"slos": ["ttft"]}, "write metric:stat:op:value"),
        ({"slos": 5}, "a list of limits is needed"),
        ({"slos": "ttft:p99:<=:500"}, "a list of limits is needed"),
        ({"preset": "fast"}, "preset"),
        ({"preset": "cost"}, "gpu_hour"),
        ({"color": "red"}, "color"),
    ],
)
def test_a_wrong_objective_is_refused(args: dict[str, Any], word: str) -> None:
    with pytest.raises(BadPlan, match=word):
        with_objective(PLAN, args)
