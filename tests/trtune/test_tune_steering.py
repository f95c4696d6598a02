"""A search under way is steered from outside, and a finished one is scored anew and goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.commands import send_command
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tests.trtune.conftest import Program, objects
from tuner.plan import Plan as PlanModel
from tuner.rescoring import adopt_plan
from tuner.steering import with_objective

Plan = Callable[..., Path]

pytestmark = pytest.mark.xdist_group("tune-2")


def two_trials_are_complete(reader: SessionReader) -> bool:
    return sum(trial.state == "complete" for trial in reader.trials()) >= 2


def is_paused(reader: SessionReader) -> bool:
    status = reader.worker()
    return status is not None and status.state == "paused"


def test_objective_range_queue_and_proof_are_changed_while_the_search_runs(program: Program, plan: Plan) -> None:
    follower = program.start("tune", plan(), "--json", "--session", program.session, "--trials", "6")
    program.wait_for(two_trials_are_complete)
    send_command(program.session, "pause")
    program.wait_for(is_paused)
    with SessionReader(program.session) as reader:
        before = len(reader.trials())
    for kind, args in (
        ("objective", {"metric": "ttft", "stat": "p50"}),
        ("objective", {"metric": "speed"}),
        ("range", {"knob": "max_batch_size", "domain": [1, 16]}),
        ("range", {"knob": "max_batch_size", "domain": []}),
        ("enqueue", {"params": {"max_batch_size": 1}}),
        ("enqueue", {"params": {"max_batch_size": 16}}),
        ("dequeue", {"place": 0}),
        ("prove", {}),
    ):
        send_command(program.session, kind, args)
    program.wait_for(lambda reader: all(each.state in ("done", "refused") for each in reader.commands()))
    with SessionReader(program.session) as reader:
        queue = reader.meta()["queue"]
    send_command(program.session, "resume")
    out, err = follower.communicate(timeout=120)

    assert follower.returncode == 0, out + err
    with SessionReader(program.session) as reader:
        states = [command.state for command in reader.commands()]
        meta, trials = reader.meta(), reader.trials()
    assert states == ["done", "done", "refused", "done", "refused", "done", "done", "done", "done", "done"]
    assert queue == [{"params": {"max_batch_size": 16}, "why": "enqueued by hand"}]
    assert meta["objective"]["label"] == "minimize ttft p50"
    assert meta["knobs"][0]["choices"] == [1, 16]
    assert all(trial.score == trial.result["ttft"]["p50"] for trial in trials if trial.score is not None)
    later = [trial for trial in trials[before:] if trial.kind != "proof"]
    assert {trial.params.get("max_batch_size") for trial in later} <= {1, 16}
    assert any(trial.kind == "enqueued" and trial.params == {"max_batch_size": 16} for trial in later)
    assert set(meta) >= {"pareto", "queue", "budget", "diagnosis", "knobs", "plan"}
    assert meta["budget"]["spent"]["trials"] >= 3
    assert objects(out)[-1]["event"] == "result"


def test_a_finished_session_is_scored_anew_and_goes_on_for_the_new_objective(program: Program, plan: Plan) -> None:
    done = program.run("tune", plan(), "--json", "--session", program.session, "--trials", "2")
    assert done.returncode == 0, done.stderr

    told = program.run("sessions", "rescore", program.session, "--objective", "e2e:p50", "--json")
    wrong = program.run("sessions", "rescore", program.session, "--objective", "speed")
    recorder = Recorder.resume(program.session)
    with SessionReader(program.session) as reader:
        before = PlanModel.model_validate(reader.meta()["plan"])
    adopt_plan(recorder, before, with_objective(before, {"metric": "tpot", "stat": "p50"}), ())
    recorder.close()  # as if the worker had been killed before it scored the trials anew
    resumed = program.run("tune", "--resume", program.session, "--json")

    assert told.returncode == 0, told.stderr
    ranking = objects(told.stdout)[0]
    assert ranking["objective"]["label"] == "minimize e2e p50"  # type: ignore[index]
    scores = [each["score"] for each in ranking["trials"]]  # type: ignore[attr-defined]
    assert scores == sorted(scores)
    assert wrong.returncode == 2
    assert "metric 'speed' is unknown" in wrong.stderr
    result = objects(resumed.stdout)[-1]
    assert result["objective"] == "minimize tpot p50"
    assert result["best"]["score"] == result["best"]["result"]["tpot"]["p50"]  # type: ignore[index]


def test_an_older_session_is_a_hint_and_one_about_something_else_is_refused(program: Program, plan: Plan) -> None:
    done = program.run("tune", plan(), "--json", "--session", program.session, "--trials", "1")
    assert done.returncode == 0, done.stderr

    next_session = program.session.with_name("next.trtune")
    hinted = program.run(
        "tune", plan(), "--json", "--session", next_session, "--trials", "1", "--warm-start", program.session
    )
    assert hinted.returncode == 0, hinted.stderr
    other = program.run(
        "tune", plan(), "--session", next_session.with_name("x.trtune"), "--model", "mixtral-8x7b",
        "--warm-start", program.session,
    )  # fmt: skip
    assert other.returncode == 2
    assert "about the model llama-3.1-8b" in other.stderr
