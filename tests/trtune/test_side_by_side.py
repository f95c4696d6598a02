"""Trials side by side on one host: the simulated server with two pretend GPUs, trials at the same time on one each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.reader import SessionReader
from sessions.records import Phase
from tests.trtune.conftest import Program, objects

Plan = Callable[..., Path]

pytestmark = pytest.mark.xdist_group("tune-2")

TWO_GPUS = ("--sim-gpus", "2")


def of(phases: tuple[Phase, ...], name: str) -> Phase:
    return next(phase for phase in phases if phase.name == name)


def overlap(one: Phase, other: Phase) -> bool:
    assert one.end_ns is not None
    assert other.end_ns is not None
    return max(one.start_ns, other.start_ns) < min(one.end_ns, other.end_ns)


def test_neighbours_are_measured_together_and_then_trials_run_side_by_side(program: Program, plan: Plan) -> None:
    path = plan(arguments=TWO_GPUS, tables="[fleet]\nside_by_side = 2\n")

    done = program.run("tune", path, "--trials", "5", "--json", "--session", program.session)

    assert done.returncode == 0, done.stderr
    assert objects(done.stdout)[-1]["event"] == "result"
    with SessionReader(program.session) as reader:
        trials, meta = reader.trials(), reader.meta()
        phases = {trial.number: tuple(reader.phases(trial.number)) for trial in trials}
        (found,) = [event for event in reader.events() if event.kind == "neighbours"]
        lanes = {event.trial: event.data["lane"] for event in reader.events() if event.kind == "placed"}
    assert [trial.state for trial in trials] == ["complete"] * 7
    checked = [trial for trial in trials if trial.kind == "proof"]
    assert {trial.params == trials[0].params for trial in checked} == {True}
    assert overlap(*(of(phases[trial.number], "measure") for trial in checked))
    assert meta["neighbours"]["together"] == [trial.score for trial in checked]
    assert found.text == meta["neighbours"]["text"]
    searched = [trial for trial in trials if trial.kind == "search"]
    if not meta["neighbours"]["disturbed"]:
        assert overlap(*(of(phases[trial.number], "start") for trial in searched[:2]))
    assert set(lanes.values()) == {"lane1"}
    ports = [word for trial in checked for word in trial.launch["argv"] if word.isdigit() and len(word) == 5]
    assert len(set(ports)) == len(ports) == 4, "each server and its exporter have a port of their own"


def test_a_lane_with_nothing_to_try_waits_for_what_is_under_way(program: Program, plan: Plan) -> None:
    tables = "[fleet]\nside_by_side = 2\ncheck_neighbours = false\n"
    path = plan(arguments=TWO_GPUS, tables=tables)

    done = program.run(
        "tune", path, "--set", "knobs.max_batch_size=[1, 2, 4]", "--trials", "9", "--json", "--session", program.session
    )

    assert done.returncode == 0, done.stderr
    with SessionReader(program.session) as reader:
        trials, worker = reader.trials(), reader.worker()
    tried = [str(trial.params) for trial in trials]
    assert len(tried) == len(set(tried)) == 4
    assert worker is not None
    assert "nothing new" in worker.text
