"""Another objective ranks finished trials anew, from their raw requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tests.sessions.made import MadeTrial, Speed, write_session
from trtune.rescore import change_objective
from tuner.errors import BadPlan
from tuner.plan import Plan
from tuner.rescoring import SCORED_FOR, past_trials, purpose_of, rescore
from tuner.warm_start import check_older_sessions, known_results

PLAN: dict[str, Any] = {
    "engine": {"model": "tiny", "arguments": ["--sim-gpu", "h100-sxm"]},
    "knobs": {"max_batch_size": [8, 16, 32]},
    "load": {"levels": [4, 16]},
}
QUICK = MadeTrial({"max_batch_size": 8}, {4: Speed(50, 5), 16: Speed(300, 9)})
STRONG = MadeTrial({"max_batch_size": 32}, {4: Speed(120, 6), 16: Speed(150, 7)})


@pytest.fixture
def session(tmp_path: Path) -> Path:
    baseline = MadeTrial({}, {4: Speed(200, 10), 16: Speed(900, 30)}, "baseline")
    plan = Plan.model_validate(PLAN).model_dump(mode="json")
    return write_session(tmp_path / "old.trtune", [baseline, QUICK, STRONG], {"plan": plan}, seconds=6)


def plan(**tables: Any) -> Plan:
    return Plan.model_validate({**PLAN, **tables})


def best(path: Path) -> int:
    with SessionReader(path) as reader:
        objective, trials = reader.meta()["objective"], reader.trials()
    sign = 1 if objective["direction"] == "maximize" else -1
    able = [trial for trial in trials if trial.feasible and trial.score is not None]
    return max(able, key=lambda trial: sign * (trial.score or 0.0)).number


def test_the_winner_depends_on_the_objective(session: Path) -> None:
    change_objective(session, {"metric": "output_token_throughput", "slos": []})
    assert best(session) == 2

    change_objective(session, {"metric": "ttft", "stat": "p50"})
    assert best(session) == 1

    with SessionReader(session) as reader:
        meta, trials = reader.meta(), reader.trials()
    assert meta["objective"]["label"] == "minimize ttft p50"
    assert meta["plan"]["objective"]["metric"] == "ttft"
    assert meta[SCORED_FOR] == purpose_of(Plan.model_validate(meta["plan"]))
    assert trials[1].score == pytest.approx(50, rel=0.15)


def test_goodput_is_worked_out_from_every_single_request(session: Path) -> None:
    with SessionReader(session) as reader:
        strict = rescore(reader, plan(objective={"metric": "goodput", "slos": ["ttft:each:<=:60"]}).to_objectives())
        loose = rescore(reader, plan(objective={"metric": "goodput", "slos": ["ttft:each:<=:60000"]}).to_objectives())

    for one, other in zip(strict.scores, loose.scores, strict=True):
        assert one.score is not None
        assert other.score is not None
        assert one.score < other.score


def test_a_limit_that_nothing_meets_leaves_nothing_to_win(session: Path) -> None:
    with SessionReader(session) as reader:
        told = rescore(reader, plan(objective={"slos": ["ttft:p99:<=:1"]}).to_objectives())

    assert [each.feasible for each in told.scores] == [False] * 3
    assert all(each.result is not None and each.result.violation > 0 for each in told.past)


def test_a_price_makes_costs_of_old_measurements(session: Path) -> None:
    with SessionReader(session) as reader:
        told = rescore(reader, plan(objective={"preset": "cost"}, price={"gpu_hour": 3.6}).to_objectives(), 3.6)

    tokens_per_s = told.scores[2].result["output_token_throughput"]["avg"]
    assert told.scores[2].score == pytest.approx(1000 / tokens_per_s)


def test_several_objectives_give_points(session: Path) -> None:
    objectives = plan(
        objectives=[{"metric": "output_token_throughput"}, {"metric": "output_token_throughput_per_user"}]
    ).to_objectives()

    with SessionReader(session) as reader:
        past = rescore(reader, objectives).past

    assert past[2].result is not None
    assert len(past[2].result.points) == 2, "one level is better for the server, the other for its user"


def test_a_failed_quality_gate_is_told_to_the_search(tmp_path: Path) -> None:
    from sessions.records import FailureRecord

    path = tmp_path / "run.trtune"
    recorder = Recorder.create(path, {})
    number = recorder.start_trial("search", {"max_batch_size": 8})
    recorder.end_trial(number, "infeasible", failure=FailureRecord("quality", "answers differ", "", ("dtype",)))
    recorder.close()

    with SessionReader(path) as reader:
        (past,) = past_trials(reader, plan().to_objectives())

    assert past.result is not None
    assert past.result.passed_gate is False
    assert past.result.accused == ("dtype",)


def test_a_session_is_not_changed_by_a_wrong_wish(session: Path) -> None:
    before = session.read_bytes()

    with pytest.raises(BadPlan):
        change_objective(session, {"metric": "speed"})

    assert session.read_bytes() == before


def test_older_results_are_hints_under_the_objective_of_today(session: Path) -> None:
    told = known_results(plan(objective={"metric": "ttft", "stat": "p50"}, search={"warm_start": [str(session)]}))

    assert [each.params for each in told] == [{}, QUICK.params, STRONG.params]
    assert told[1].result.value == pytest.approx(50, rel=0.15)
    assert {each.session for each in told} == {"old.trtune"}


@pytest.mark.parametrize(
    ("engine", "word"),
    [
        ({"model": "large", "arguments": ["--sim-gpu", "h100-sxm"]}, "about the model tiny"),
        ({"model": "tiny", "name": "vllm"}, "about the engine trtllm"),
        ({"model": "tiny", "arguments": ["--sim-gpu", "l4"]}, "was measured on NVIDIA H100"),
    ],
)
def test_a_session_about_something_else_is_refused(session: Path, engine: dict[str, Any], word: str) -> None:
    with pytest.raises(BadPlan, match=word):
        check_older_sessions(plan(engine=engine, search={"warm_start": [str(session)]}), ())


def test_a_file_that_is_no_session_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("hello")

    with pytest.raises(BadPlan, match=r"notes\.txt"):
        check_older_sessions(plan(search={"warm_start": [str(wrong)]}), ())


def test_an_older_session_with_nonsense_for_facts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "strange.trtune"
    Recorder.create(path, {"engine": "no table", "plan": []}).close()

    with pytest.raises(BadPlan, match="about the engine None"):
        check_older_sessions(plan(search={"warm_start": [str(path)]}), ())
