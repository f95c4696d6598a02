"""The Pareto front that the session tells of."""

from __future__ import annotations

import pytest

from sessions.records import LevelRecord, Trial
from sessions.slo import Slo
from tuner.explaining import front_facts
from tuner.search.objective import Objective

THROUGHPUT = Objective("output_token_throughput", "avg", "maximize")


def level(identity: int, trial: int, per_gpu: float, per_user: float, ttft: float = 100) -> LevelRecord:
    result = {
        "output_token_throughput_per_gpu": {"avg": per_gpu},
        "output_token_throughput_per_user": {"avg": per_user},
        "ttft": {"p99": ttft},
    }
    return LevelRecord(identity, trial, "concurrency", 8, "valid", 0, 1, (0, 1), result, ())


def trial(number: int, kind: str = "search") -> Trial:
    return Trial(number, kind, "complete", {}, start_ns=0, end_ns=1)


def test_with_one_objective_the_front_is_throughput_per_gpu_against_per_user() -> None:
    levels = [level(1, 0, 100, 50), level(2, 0, 200, 20), level(3, 1, 90, 40), level(4, 2, 999, 999)]

    told = front_facts([trial(0), trial(1), trial(2, "proof")], levels, [THROUGHPUT])

    assert [each["level"] for each in told["front"]] == [2, 1]
    assert told["front"][0]["values"] == [200, 20]
    assert told["hypervolume"] == pytest.approx(200 * 20 + 100 * 30)


def test_with_several_objectives_only_levels_within_the_limits_are_on_it() -> None:
    slos = (Slo.parse("ttft:p99:<=:200"),)
    objectives = [
        Objective("output_token_throughput_per_gpu", "avg", "maximize", slos),
        Objective("ttft", "p99", "minimize", slos),
    ]
    levels = [level(1, 0, 100, 1, ttft=100), level(2, 0, 150, 1, ttft=180), level(3, 0, 900, 1, ttft=300)]

    told = front_facts([trial(0)], levels, objectives)

    assert [each["level"] for each in told["front"]] == [2, 1]
    assert told["hypervolume"] == pytest.approx(100 * 80), "beyond the worst latency measured"


def test_nothing_measured_is_an_empty_front() -> None:
    assert front_facts([], [], [THROUGHPUT])["front"] == []
