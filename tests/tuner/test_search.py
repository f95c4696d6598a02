"""The public search: built from what is known, asked and told, for any names of knobs."""

from __future__ import annotations

import math
import time

import pytest

import trtune
from engines.gpu.hardware import GPUS
from engines.knob import Knob
from engines.models import find_shape, load_checkpoint
from sessions.records import Metrics, Params
from sessions.slo import Slo
from tuner.errors import BadPlan
from tuner.search.objective import Objective
from tuner.search.problem import Hardware, Meaning, WorkloadShape
from tuner.search.search import BASELINE, Known, Proposal, Result, Search

OBJECTIVE = Objective("output_token_throughput", "avg", "maximize")
STRANGERS = (
    Knob("lanes", "int", default=4, low=1, high=256, log=True),
    Knob("gulp", "int", default=512, low=64, high=8192, log=True),
    Knob("mode", "choice", default="a", choices=("a", "b", "c")),
    Knob("turbo", "bool", default=False),
)
SERVER = (
    Knob("tensor_parallel_size", "int", default=1, low=1, high=8, choices=(1, 2, 4, 8), coarse=True, searched=True),
    Knob("max_batch_size", "int", default=64, low=1, high=512, log=True, choices=(8, 32, 128, 512), searched=True),
    Knob("max_num_tokens", "int", default=8192, low=64, high=65536, choices=(2048, 8192, 32768), searched=True),
    Knob("kv_cache_config.dtype", "choice", default="auto", choices=("auto", "fp8"), searched=True),
)
WORKLOAD = WorkloadShape(1000, 128, (8.0, 32.0, 128.0))


def stranger_value(proposal: Proposal) -> float:
    """A surface nobody modelled: a ridge over two numbers, a switch and a choice."""
    params = {knob.name: proposal.params.get(knob.name, knob.default) for knob in STRANGERS}
    lanes, gulp = float(str(params["lanes"])), float(str(params["gulp"]))
    value = 100 - 8 * abs(math.log2(lanes / 48)) - 5 * abs(math.log2(gulp / 2048))
    return max(value, 5) * (1.2 if params["turbo"] else 1) * {"a": 1.0, "b": 0.7, "c": 1.1}[str(params["mode"])]


def ask(search: Search) -> Proposal:
    proposal = search.ask()
    assert proposal is not None
    return proposal


def test_the_front_door_gives_the_search() -> None:
    assert trtune.Search is Search


@pytest.mark.parametrize("seed", range(3))
def test_a_strangers_surface_is_climbed_without_any_knowledge(seed: int) -> None:
    search = Search(STRANGERS, OBJECTIVE, seed=seed)
    for _ in range(30):
        proposal = ask(search)
        search.tell(proposal, Result(stranger_value(proposal)))

    best = search.best()
    assert best is not None
    assert stranger_value(Proposal(0, "", best.params)) > 0.9 * 132


def test_the_baseline_comes_first_and_every_proposal_names_the_levels() -> None:
    search = Search(SERVER, OBJECTIVE, workload=WORKLOAD)

    first = ask(search)

    assert first.kind == BASELINE
    assert first.levels == WORKLOAD.levels


def test_what_cannot_fit_is_never_proposed() -> None:
    search = Search(
        SERVER,
        OBJECTIVE,
        hardware=Hardware(GPUS["h100-sxm"], 4),
        model=load_checkpoint("llama-3.3-70b"),
        workload=WORKLOAD,
        baseline={"tensor_parallel_size": 4},
    )
    for _ in range(12):
        proposal = ask(search)
        search.tell(proposal, Result(float(str(proposal.params.get("max_batch_size", 64)))))
        assert proposal.params["tensor_parallel_size"] in (2, 4)
    assert "GPUs" in str(search.rejection({"tensor_parallel_size": 8}))


def test_with_a_prior_the_second_trial_is_its_best_and_says_at_which_load() -> None:
    search = Search(
        SERVER, OBJECTIVE, hardware=Hardware(GPUS["h200"], 4), model=find_shape("llama-3.1-8b"), workload=WORKLOAD
    )

    search.tell(ask(search), Result(1000.0))
    second = ask(search)

    assert second.params["tensor_parallel_size"] == 4
    assert second.expected_level == 128


def test_meanings_give_a_stranger_a_prior() -> None:
    knobs = (
        Knob("cards", "int", default=1, low=1, high=8, choices=(1, 2, 4, 8), coarse=True),
        Knob("seats", "int", default=8, low=1, high=512, choices=(8, 64, 256)),
    )
    search = Search(
        knobs,
        OBJECTIVE,
        hardware=Hardware(GPUS["h200"], 4),
        model=find_shape("llama-3.1-8b"),
        workload=WORKLOAD,
        meanings={"cards": Meaning.TENSOR_PARALLEL, "seats": Meaning.BATCH},
    )

    search.tell(ask(search), Result(1000.0))

    assert ask(search).params["cards"] == 4
    assert search.rejection({"cards": 8}) is not None


def test_the_same_seed_gives_the_same_proposals() -> None:
    def proposals() -> list[Params]:
        search = Search(STRANGERS, OBJECTIVE, seed=5)
        made = []
        for _ in range(12):
            proposal = ask(search)
            search.tell(proposal, Result(stranger_value(proposal)))
            made.append(dict(proposal.params))
        return made

    assert proposals() == proposals()


def test_the_recommendation_meets_the_slos_and_passes_the_gate() -> None:
    search = Search(STRANGERS, OBJECTIVE)
    broken, gated, good = ask(search), ask(search), ask(search)
    search.tell(broken, Result(900.0, violation=0.2))
    search.tell(gated, Result(800.0, passed_gate=False))
    search.tell(good, Result(100.0))

    best = search.best()

    assert best is not None
    assert best.params == good.params
    assert best.measured == 100
    assert best.low <= best.expected <= best.high


def test_nothing_is_recommended_when_nothing_worked() -> None:
    search = Search(STRANGERS, OBJECTIVE)
    search.tell(ask(search), Result.failed("out of memory", ("lanes",)))

    assert search.best() is None


def test_a_failure_is_not_asked_for_again_and_a_passing_trouble_may_be() -> None:
    knobs = (Knob("turbo", "bool", default=False),)
    failing = Search(knobs, OBJECTIVE)
    search = Search(knobs, OBJECTIVE)
    for each in (failing, search):
        each.tell(ask(each), Result(10.0))

    failing.tell(ask(failing), Result.failed("no such instruction", ("turbo",)))
    troubled = ask(search)
    search.tell(troubled, Result.failed("port in use", infeasible=False))

    assert failing.ask() is None
    assert ask(search).params == troubled.params


def test_a_latency_is_minimised() -> None:
    search = Search(STRANGERS, Objective("ttft", "p99", "minimize"), seed=1)
    for _ in range(25):
        proposal = ask(search)
        search.tell(proposal, Result(1000 / stranger_value(proposal)))

    best = search.best()
    assert best is not None
    assert best.measured < 1000 / 110


def test_an_objective_below_zero_is_climbed_too() -> None:
    search = Search(STRANGERS, OBJECTIVE, seed=4)
    for _ in range(25):
        proposal = ask(search)
        search.tell(proposal, Result(stranger_value(proposal) - 120))

    best = search.best()
    assert best is not None
    assert best.measured > -10
    assert best.low <= best.expected <= best.high


def test_levels_give_the_best_result_within_the_slos() -> None:
    objective = Objective("output_token_throughput", "avg", "maximize", (Slo("ttft", "p99", "<=", 100),))
    levels: list[Metrics | None] = [
        {"output_token_throughput": {"avg": rate}, "ttft": {"p99": ms}}
        for rate, ms in ((10.0, 50.0), (30.0, 90.0), (50.0, 300.0))
    ]

    assert Result.of_levels(objective, levels).value == 30


def test_a_baseline_outside_the_ranges_may_still_be_the_best() -> None:
    knobs = (Knob("lanes", "int", default=None, low=1, high=8, choices=(1, 2, 4)),)
    search = Search(knobs, OBJECTIVE)
    search.tell(ask(search), Result(100.0))
    search.tell(ask(search), Result(50.0))

    best = search.best()

    assert best is not None
    assert best.params == {}


def test_several_may_run_at_once_and_none_of_them_twice() -> None:
    search = Search(SERVER, OBJECTIVE, seed=2)
    search.tell(ask(search), Result(10.0))
    search.tell(ask(search), Result(12.0))

    running = [ask(search) for _ in range(6)]

    assert len({tuple(sorted(each.params.items())) for each in running}) == 6
    assert running[0].gpus == running[0].params.get("tensor_parallel_size", 1)
    for each in reversed(running):
        search.tell(each, Result(20.0))


@pytest.mark.parametrize("sampler", ["roofline", "random", "tpe"])
def test_no_sampler_proposes_what_is_running(sampler: str) -> None:
    search = Search([Knob("mode", "choice", default="a", choices=("a", "b", "c"))], OBJECTIVE, seed=2, sampler=sampler)
    baseline = ask(search)

    running = [ask(search) for _ in range(2)]

    assert baseline.params == {}
    assert {str(each.params["mode"]) for each in running} == {"b", "c"}
    assert search.ask() is None, "all that is left is being tried"


def test_what_was_best_in_an_older_session_comes_right_after_the_baseline_and_is_not_recommended_unmeasured() -> None:
    older = [
        Known({"lanes": 48, "gulp": 2048, "turbo": True, "mode": "c"}, Result(131.0), "last week"),
        Known({"lanes": 4, "gulp": 512, "turbo": False, "mode": "a"}, Result(60.0), "last week"),
        Known({"lanes": 48, "gulp": 2048, "turbo": True, "mode": "gone"}, Result(500.0), "last week"),
    ]
    search = Search(STRANGERS, OBJECTIVE, known=older)

    baseline = ask(search)
    search.tell(baseline, Result(30.0))
    best = search.best()
    second = ask(search)

    assert best is not None
    assert best.measured == 30.0
    assert second.params == {"lanes": 48, "gulp": 2048, "turbo": True, "mode": "c"}


def test_a_failure_of_an_older_session_is_a_hint_and_forbids_nothing() -> None:
    search = Search(
        STRANGERS, OBJECTIVE, known=[Known({"turbo": True}, Result.failed("no such instruction", ("turbo",)))]
    )

    assert search.rejection({"turbo": True}) is None
    assert search.best() is None


def test_trials_measured_under_another_objective_are_taken_in() -> None:
    search = Search(STRANGERS, OBJECTIVE)
    search.learn({}, Result(50.0), BASELINE)
    search.learn({"lanes": 48, "gulp": 2048}, Result(90.0))
    search.learn({"lanes": 256}, Result.failed("out of memory", ("lanes",)))

    proposal = ask(search)
    best = search.best()

    assert proposal.kind != BASELINE
    assert best is not None
    assert best.measured == 90.0
    assert best.params["lanes"] == 48
    assert "out of memory" in str(search.rejection({"lanes": 256, "gulp": 512, "mode": "a", "turbo": False}))


@pytest.mark.parametrize("sampler", ["roofline", "tpe", "nsga2", "random"])
def test_every_sampler_works_through_the_same_search(sampler: str) -> None:
    search = Search(STRANGERS, OBJECTIVE, sampler=sampler, seed=2)
    for _ in range(15):
        proposal = ask(search)
        search.tell(proposal, Result(stranger_value(proposal)))

    assert search.best() is not None


def test_an_unknown_sampler_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadPlan, match="roofline, tpe, gp, nsga2, random"):
        Search(STRANGERS, OBJECTIVE, sampler="magic")


def test_with_two_hundred_trials_a_proposal_still_costs_little_cpu() -> None:
    search = Search(STRANGERS, OBJECTIVE)
    for number in range(200):
        search.enqueue(
            {"lanes": number + 1, "gulp": 64 + 40 * number, "turbo": number % 2 == 0, "mode": "abc"[number % 3]}
        )
    for _ in range(201):
        proposal = ask(search)
        search.tell(proposal, Result(stranger_value(proposal)))

    begun_s = time.process_time()
    for _ in range(5):
        proposal = ask(search)
        search.tell(proposal, Result(stranger_value(proposal)))

    assert (time.process_time() - begun_s) / 5 < 1.0, "ten times the bar: this machine may be slow and busy"
