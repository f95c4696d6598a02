"""What a plan may ask for: presets, directions by themselves, AIPerf's names, prices."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tuner.goals import ObjectivePlan, parse_goal
from tuner.plan import Plan
from tuner.presets import PRESETS


def plan(**tables: Any) -> Plan:
    return Plan.model_validate({"engine": {"model": "m"}, **tables})


def test_a_metric_knows_which_way_is_better() -> None:
    assert ObjectivePlan.model_validate({"metric": "ttft", "stat": "p99"}).direction == "minimize"
    assert ObjectivePlan.model_validate({"metric": "goodput"}).direction == "maximize"
    assert ObjectivePlan.model_validate({"metric": "ttft", "direction": "maximize"}).direction == "maximize"


def test_aiperfs_names_stand_for_ours() -> None:
    objective = ObjectivePlan.model_validate({"metric": "time_to_first_token", "slos": ["request_latency:p99:le:900"]})

    assert objective.metric == "ttft"
    assert str(objective.parsed_slos()[0]) == "e2e p99 <= 900 ms"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_whole_objective(preset: str) -> None:
    told = plan(objective={"preset": preset}, price={"gpu_hour": 2.5})

    assert told.to_objectives()[0].metric == PRESETS[preset].metric
    assert told == Plan.model_validate(told.model_dump(mode="json")), "a stored plan means the same"


def test_what_a_plan_says_itself_wins_over_its_preset() -> None:
    objective = ObjectivePlan.model_validate({"preset": "interactive", "slos": ["ttft:p99:<=:300"]})

    assert "ttft:p99:<=:300" in objective.slos
    assert "ttft:p99:<=:1000" not in objective.slos
    assert "tpot:p99:<=:50" in objective.slos


def test_money_needs_a_price() -> None:
    for tables in ({"objective": {"preset": "cost"}}, {"search": {"money": 10}}):
        with pytest.raises(ValidationError, match=r"price\.gpu_hour"):
            plan(**tables)


def test_several_objectives_share_the_limits_and_the_first_is_the_score() -> None:
    told = plan(
        objectives=[{"metric": "output_token_throughput_per_gpu"}, {"metric": "tpot", "stat": "p99"}],
        objective={"slos": ["error_ratio:avg:<=:0.01"]},
    )

    first, second = told.to_objectives()
    assert told.objective.metric == first.metric == "output_token_throughput_per_gpu"
    assert second.direction == "minimize"
    assert first.slos == second.slos != ()
    assert told == Plan.model_validate(told.model_dump(mode="json"))


def test_goals_of_a_command_line() -> None:
    assert parse_goal("ttft:p99:minimize") == {"metric": "ttft", "stat": "p99", "direction": "minimize"}
    assert parse_goal("goodput") == {"metric": "goodput"}
    with pytest.raises(ValueError, match="write metric:stat:direction"):
        parse_goal("a:b:c:d")


@pytest.mark.parametrize("preset", [["cost"], {"name": "cost"}, 3, "cheap"])
def test_something_else_than_a_preset_is_refused_by_name(preset: object) -> None:
    with pytest.raises(ValidationError, match=r"objective\.preset"):
        plan(objective={"preset": preset})
