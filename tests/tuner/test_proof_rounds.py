"""A round of a proof on a machine that changed is repeated, twice at most, and the session says what moved."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from sessions.columns import GPU_COLUMNS
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.records import Event, Params
from tuner.bench import Bench
from tuner.control import Control
from tuner.fleet.base import Fleet
from tuner.plan import Plan
from tuner.proof_rounds import MOST_REPEATS, contestants, prove, watch_the_machine
from tuner.proving import Contestant, Proof, Run
from tuner.search.objective import Score
from tuner.search.study import StudySearch
from tuner.trial import Order, TrialResult

S = 1_000_000_000
BASELINE, FINALIST = Contestant("baseline", 0, {}, 8), Contestant("trial 1", 1, {"a": 1}, 8)


def record_run(recorder: Recorder, source: int, clock_mhz: float) -> int:
    """A proof trial measured for four seconds at a clock; returns its number."""
    number = recorder.start_trial("proof", {})
    level = recorder.start_level(number, "concurrency", 8)
    start_ns = number * 10 * S
    known = {
        "sm_clock_mhz": clock_mhz,
        "mem_clock_mhz": 2600.0,
        "power_limit_w": 700.0,
        "temp_c": 60.0,
        "throttle_mask": 0.0,
    }
    for second in range(5):
        values = [known.get(column.name, math.nan) for column in GPU_COLUMNS]
        recorder.add_sample(source, start_ns + second * S, values)
    recorder.end_level(level, "valid", window_ns=(start_ns, start_ns + 4 * S))
    recorder.end_trial(number, "complete", score=1.0, feasible=True)
    return number


def run_rounds(path: Path, clocks: list[tuple[float, float]]) -> tuple[Proof, list[Event]]:
    recorder = Recorder.create(path, {})
    source = recorder.add_source("gpu", "gpu0", {})
    plan = Plan.model_validate({"engine": {"model": "m"}})
    bench = cast(Bench, SimpleNamespace(plan=plan, recorder=recorder))
    proof = Proof((BASELINE, FINALIST), since=0)
    for pair in clocks:
        for who, clock_mhz in zip((BASELINE, FINALIST), pair, strict=True):
            proof.tell(who, Run(record_run(recorder, source, clock_mhz), 1.0, feasible=True))
        watch_the_machine(bench, proof)
    recorder.close()
    with SessionReader(path) as reader:
        return proof, [event for event in reader.events() if event.kind == "drift"]


def test_a_finalist_that_loads_the_gpu_more_is_no_drift(tmp_path: Path) -> None:
    proof, events = run_rounds(tmp_path / "run.trtune", [(1980, 1500), (1980, 1500), (1970, 1510)])

    assert (len(proof.rounds), events) == (3, [])


def test_a_round_at_another_clock_is_repeated(tmp_path: Path) -> None:
    proof, events = run_rounds(tmp_path / "run.trtune", [(1980, 1980), (1755, 1755), (1980, 1980)])

    assert len(proof.rounds) == 2
    assert proof.repeated == 1
    assert "gpu0: SM clock from 1980 to 1755 MHz" in events[0].text
    assert events[0].data["repeated"] == [2, 3]


def test_a_machine_that_stays_another_is_told_of_and_accepted(tmp_path: Path) -> None:
    proof, events = run_rounds(tmp_path / "run.trtune", [(1980, 1980), *[(1755, 1755)] * (MOST_REPEATS + 1)])

    assert proof.repeated == MOST_REPEATS
    assert len(proof.rounds) == 2
    assert "counts all the same" in events[-1].text


def test_a_baseline_that_was_never_measured_looks_for_its_own_best_load(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    recorder = Recorder.create(path, {})
    recorder.end_trial(recorder.start_trial("baseline", {}), "infeasible")
    number = recorder.start_trial("search", {"max_batch_size": 64})
    level = recorder.start_level(number, "concurrency", 32)
    result = {"output_token_throughput": {"avg": 900.0}}
    recorder.end_level(level, "valid", window_ns=(0, S), result=result)
    recorder.end_trial(number, "complete", score=900.0, feasible=True, result=result)
    recorder.close()
    plan = Plan.model_validate({"engine": {"model": "m"}})
    bench = cast(Bench, SimpleNamespace(plan=plan, objective=plan.to_objectives()[0]))
    search = cast(StudySearch, SimpleNamespace(best=lambda: None, covers=lambda _: True))

    with SessionReader(path) as reader:
        taking_part = contestants(bench, reader, reader.trials(), search, (number, 900.0))

    assert [(each.name, each.level) for each in taking_part] == [("baseline", None), ("trial 1", 32.0)]


def test_a_baseline_that_was_started_again_is_repeated_at_the_load_it_was_measured_at(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    recorder = Recorder.create(path, {})
    recorder.end_trial(recorder.start_trial("baseline", {}), "failed")
    recorder.close()
    bench, search = tuned(path, Recorder.resume(path))

    with SessionReader(path) as reader:
        taking_part = contestants(bench, reader, reader.trials(), search, (2, 900.0))

    assert [(each.name, each.trial, each.level) for each in taking_part] == [
        ("baseline", 1, 32.0),
        ("trial 2", 2, 32.0),
    ]
    bench.recorder.close()


def tuned(path: Path, begun: Recorder | None = None) -> tuple[Bench, StudySearch]:
    """A session with a baseline of 800 and a trial of 900 tokens/s."""
    recorder = begun or Recorder.create(path, {})
    tried: tuple[tuple[str, Params, float], ...] = (("baseline", {}, 800.0), ("search", {"max_batch_size": 64}, 900.0))
    for kind, params, score in tried:
        number = recorder.start_trial(kind, params)
        level = recorder.start_level(number, "concurrency", 32)
        result = {"output_token_throughput": {"avg": score}}
        recorder.end_level(level, "valid", window_ns=(0, S), result=result)
        recorder.end_trial(number, "complete", score=score, feasible=True, result=result)
    plan = Plan.model_validate({"engine": {"model": "m"}, "search": {"proof_rounds": 3}})
    bench = SimpleNamespace(
        plan=plan, objective=plan.to_objectives()[0], recorder=recorder, control=Control(), gpus_of=lambda _: 1
    )
    return cast(Bench, bench), cast(StudySearch, SimpleNamespace(best=lambda: None, covers=lambda _: True))


class Runs:
    """A fleet that runs nothing: the configuration without settings reaches 800, any other 900."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.at: dict[int, Plan] = {}
        self.done = 0

    async def run(self, order: Order, _gpus: int, _on_number: object) -> TrialResult:
        number = self._bench.recorder.start_trial(order.kind, order.params)
        self.done += 1
        self._bench.plan = self.at.get(self.done, self._bench.plan)
        score = Score(900.0 + self.done if order.params else 800.0, feasible=True, violation=0.0, level=0, result={})
        self._bench.recorder.end_trial(number, "complete", score=score.value, feasible=True)
        return TrialResult(number, "complete", score)


async def test_a_proof_ends_without_a_verdict_when_the_objective_is_changed_under_it(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    bench, search = tuned(path)
    runs = Runs(bench)
    runs.at[3] = Plan.model_validate({"engine": {"model": "m"}, "objective": {"metric": "ttft"}})

    proven = await prove(bench, cast(Fleet, runs), search, (1, 900.0))

    bench.recorder.close()
    with SessionReader(path) as reader:
        assert (proven, runs.done, reader.meta().get("verdict")) == (False, 3, None)


async def test_a_proof_that_is_asked_for_twice_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    bench, search = tuned(path)
    runs = Runs(bench)

    assert await prove(bench, cast(Fleet, runs), search, (1, 900.0))
    assert await prove(bench, cast(Fleet, runs), search, (1, 900.0))

    bench.recorder.close()
    with SessionReader(path) as reader:
        verdicts = [event.text for event in reader.events() if event.kind == "verdict"]
        assert runs.done == 6, "the second time nothing is run"
        assert len(verdicts) == 1
        assert reader.meta()["verdict"]["text"] == verdicts[0]
