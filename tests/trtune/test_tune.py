"""`trtune tune` from end to end, with the simulated server over HTTP."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sessions.commands import send_command
from sessions.reader import SessionReader
from tests.trtune.conftest import Program, objects, relatives

Plan = Callable[..., Path]

pytestmark = pytest.mark.xdist_group("tune")


def some_trial_is_running(reader: SessionReader) -> bool:
    return any(trial.state == "running" for trial in reader.trials())


def one_trial_is_complete(reader: SessionReader) -> bool:
    return any(trial.state == "complete" for trial in reader.trials())


def is_over(reader: SessionReader) -> bool:
    status = reader.worker()
    return status is not None and status.over


def test_a_tuning_run_ends_with_a_best_configuration_and_everything_in_the_session(
    program: Program, plan: Plan
) -> None:
    done = program.run("tune", plan(), "--json", "--session", program.session)

    assert done.returncode == 0, done.stderr
    result = objects(done.stdout)[-1]
    assert result["event"] == "result"
    assert result["simulated"] is True
    best, baseline = result["best"], result["baseline"]
    assert isinstance(best, dict)
    assert isinstance(baseline, dict)
    assert best["score"] >= baseline["score"] > 0
    with SessionReader(program.session) as reader:
        trials = reader.trials()
        assert trials[0].kind == "baseline"
        assert [trial.state for trial in trials] == ["complete"] * 3
        assert {phase.name for phase in reader.phases(0)} >= {"prepare", "start", "measure", "stop"}
        assert trials[0].effective["max_batch_size"] == 2048
        assert "max_batch_size" in "".join(trials[1].launch["files"].values())
        assert sum(len(reader.requests(level.id)) for level in reader.levels()) > 6
        kinds = {source.kind: source for source in reader.sources()}
        assert set(kinds) == {"gpu", "engine", "load"}
        assert all(reader.last_sample(source.id) is not None for source in kinds.values())
        assert any("simulated" in line.text for line in reader.logs())


def test_optuna_reads_its_own_study_in_the_session(program: Program, plan: Plan) -> None:
    import optuna

    program.run("tune", plan(), "--json", "--session", program.session, "--trials", "2")

    study = optuna.load_study(study_name="trtune", storage=f"sqlite:///{program.session}")
    assert len([trial for trial in study.trials if trial.value is not None]) >= 1


def test_a_killed_worker_is_resumed_without_running_a_finished_trial_again(program: Program, plan: Plan) -> None:
    follower = program.start("tune", plan(), "--json", "--session", program.session)
    program.wait_for(lambda reader: one_trial_is_complete(reader) and some_trial_is_running(reader))
    family = relatives(program.worker_pid())
    os.kill(program.worker_pid(), signal.SIGKILL)
    out, _ = follower.communicate(timeout=60)

    assert follower.returncode == 1
    assert "trtune tune --resume" in out
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "the killed worker left processes behind"
    with SessionReader(program.session) as reader:
        before = {trial.number: trial for trial in reader.trials() if trial.state == "complete"}

    done = program.run("tune", "--resume", program.session, "--json")

    assert done.returncode == 0, done.stderr
    with SessionReader(program.session) as reader:
        after = reader.trials()
        assert {number: trial for number, trial in enumerate(after) if number in before} == before
        complete = [trial for trial in after if trial.state == "complete"]
        assert len(complete) == 3
        assert len({str(sorted(trial.params.items())) for trial in complete}) == 3
        assert [trial.state for trial in after].count("interrupted") == 1


def test_a_fault_in_a_library_is_named_and_its_stack_is_kept(program: Program, plan: Plan) -> None:
    follower = program.start("tune", plan(), "--json", "--session", program.session)
    program.wait_for(some_trial_is_running)
    os.kill(program.worker_pid(), signal.SIGSEGV)
    out, _ = follower.communicate(timeout=60)

    assert follower.returncode == 1
    assert f"ended by a fault in a library (see {program.session}-fault)" in out

    assert program.run("tune", "--resume", program.session, "--json").returncode == 0
    with SessionReader(program.session) as reader:
        told = "\n".join(line.text for line in reader.logs())
    assert "Segmentation fault" in told
    assert "tuner/worker.py" in told
    assert not program.session.with_name(program.session.name + "-fault").exists()


def test_the_work_goes_on_when_the_terminal_is_closed(program: Program, plan: Plan) -> None:
    follower = program.start("tune", plan(), "--headless", "--session", program.session, "--trials", "2")
    program.wait_for(some_trial_is_running)
    worker = program.worker_pid()
    os.killpg(follower.pid, signal.SIGHUP)
    follower.wait(30)

    assert psutil.pid_exists(worker)
    attached = program.run("attach", program.session, "--json")

    assert attached.returncode == 0, attached.stderr
    assert objects(attached.stdout)[-1]["event"] == "result"
    with SessionReader(program.session) as reader:
        assert [trial.state for trial in reader.trials()] == ["complete"] * 2


def test_ctrl_c_stops_in_good_order_and_leaves_no_process(program: Program, plan: Plan) -> None:
    follower = program.start("tune", plan(), "--headless", "--session", program.session)
    program.wait_for(some_trial_is_running)
    family = relatives(program.worker_pid())
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=60)

    assert follower.returncode == 130
    assert "stopping" in out
    assert "Traceback" not in out + err
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    with SessionReader(program.session) as reader:
        assert is_over(reader)
        assert "running" not in {trial.state for trial in reader.trials()}


def test_a_skipped_trial_is_left_and_the_search_goes_on(program: Program, plan: Plan) -> None:
    follower = program.start(
        "tune", plan(), "--json", "--session", program.session, "--set", "load.stop.max_s=30", "--set", "load.stop.min_s=30",
        "--trials", "2",
    )  # fmt: skip
    program.wait_for(lambda reader: any(phase.name == "measure" for phase in reader.phases()))
    send_command(program.session, "skip")
    program.wait_for(lambda reader: reader.trials()[0].state == "skipped")
    program.wait_for(lambda reader: any(phase.name == "measure" for phase in reader.phases(1)))
    send_command(program.session, "stop")
    follower.communicate(timeout=60)

    assert follower.returncode == 130


def test_pause_holds_the_next_trial_and_resume_lets_it_go(program: Program, plan: Plan) -> None:
    follower = program.start("tune", plan(), "--json", "--session", program.session, "--trials", "2")
    program.wait_for(some_trial_is_running)
    send_command(program.session, "pause")
    program.wait_for(lambda reader: (status := reader.worker()) is not None and status.state == "paused")
    program.wait_for(lambda reader: not some_trial_is_running(reader) or len(reader.levels()) == 0)
    send_command(program.session, "resume")
    follower.communicate(timeout=90)

    assert follower.returncode == 0


def test_an_enqueued_configuration_is_run_and_an_impossible_one_refused(program: Program, plan: Plan) -> None:
    follower = program.start("tune", plan(), "--json", "--session", program.session, "--trials", "2")
    program.wait_for(some_trial_is_running)
    send_command(program.session, "enqueue", {"params": {"max_batch_size": 3}})
    send_command(program.session, "enqueue", {"params": {"max_batch_size": 8}})
    program.wait_for(lambda reader: any(trial.kind == "enqueued" for trial in reader.trials()))
    with SessionReader(program.session) as reader:
        assert reader.meta()["queue"] == []  # what runs waits no longer
    follower.communicate(timeout=90)

    with SessionReader(program.session) as reader:
        assert [command.state for command in reader.commands()] == ["refused", "done"]
        assert any(trial.params.get("max_batch_size") == 8 for trial in reader.trials())


@pytest.mark.parametrize(
    ("fault", "kind", "limits"),
    [
        ("oom-at-start", "out_of_memory", ()),
        ("crash-at=1", "died", ()),
        ("never-ready", "timeout", ("--set", "engine.start_timeout_s=2")),
        ("zombie-health", "hung", ("--set", "engine.hang_timeout_s=2")),
    ],
)
def test_a_server_that_fails_is_named_and_costs_no_more_than_its_limit(
    program: Program, plan: Plan, fault: str, kind: str, limits: tuple[str, ...]
) -> None:
    path = plan(arguments=("--sim-fault", fault))

    done = program.run(
        "tune", path, "--json", "--session", program.session, "--trials", "2", *limits,
        "--set", "load.stop.max_s=8", "--set", "load.stop.min_s=8",
    )  # fmt: skip

    assert done.returncode == 3, done.stdout + done.stderr
    with SessionReader(program.session) as reader:
        trials = reader.trials()
    assert len(trials) >= 2, "the search went on"
    assert all(trial.failure is not None for trial in trials)
    assert {trial.failure.kind for trial in trials if trial.failure} == {kind}
    if kind == "died":
        assert [trial.state for trial in trials[:2]] == ["failed", "infeasible"], (
            "without a cause it is tried once more"
        )
        assert trials[0].params == trials[1].params


def test_a_program_that_is_not_there_is_named_at_once(program: Program, plan: Plan) -> None:
    done = program.run(
        "tune", plan(), "--headless", "--session", program.session, "--set", 'engine.command=["no-such-program"]'
    )

    assert done.returncode == 1 or done.returncode == 4
    assert "no-such-program" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_winner_is_proven_in_repeated_rounds(program: Program, plan: Plan) -> None:
    path = plan(tables="[baseline]\nmax_batch_size = 1\n")

    done = program.run(
        "tune", path, "--json", "--session", program.session, "--set", "search.proof_rounds=2",
        "--set", "knobs.max_batch_size=[1, 8]", "--trials", "2", "--set", "load.levels=[8]",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    verdict = objects(done.stdout)[-1]["verdict"]
    assert isinstance(verdict, dict)
    assert "rounds" in verdict["text"]
    with SessionReader(program.session) as reader:
        kinds = [trial.kind for trial in reader.trials()]
        levels = [len(reader.levels(trial.number)) for trial in reader.trials() if trial.kind == "proof"]
    assert kinds == ["baseline", "search", "proof", "proof", "proof", "proof"]
    assert levels == [1, 1, 1, 1], "only the level that decided is measured again"


def test_the_highest_load_within_the_limits_is_looked_for(program: Program, plan: Plan) -> None:
    done = program.run(
        "tune", plan(), "--json", "--session", program.session, "--trials", "1", "--set", "load.find=true",
        "--set", "load.levels=[1, 16]", "--set", "load.most_levels=4", "--slo", "ttft:p99:<=:100000",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    with SessionReader(program.session) as reader:
        assert [level.value for level in reader.levels()] == [16], (
            "begun where the prior expects the best, which is the heaviest"
        )


def test_listed_levels_are_measured_from_the_best_trials_level_on(program: Program, plan: Plan) -> None:
    done = program.run(
        "tune", plan(), "--json", "--session", program.session, "--trials", "2", "--set", 'load.find="listed"',
        "--set", "load.levels=[1, 4, 16]", "--slo", "ttft:p99:<=:100000",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    with SessionReader(program.session) as reader:
        baseline, second = ([level.value for level in reader.levels(each.number)] for each in reader.trials())
    assert baseline == [1, 4, 16], "a baseline shows the whole curve"
    assert second == [16], "the heaviest level was the best of the baseline, and there is none above it"
