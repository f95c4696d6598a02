"""Random kill -9: nothing finished is lost, at most a second of samples, and the work goes on.

The whole is `benchmarks.sessions.torture`.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.sessions.torture import MAX_LOSS_S, torture_recording, torture_tuning
from sessions.clock import NS_PER_S
from sessions.reader import SessionReader
from sessions.recorder import Recorder

YEAR_NS = 365 * 86_400 * NS_PER_S


def test_a_recorder_killed_at_random_loses_at_most_a_second() -> None:
    told = torture_recording(6, seed=11)

    assert told.wrong == []
    assert told.kills == 6
    assert told.requests
    assert told.worst_loss_s <= MAX_LOSS_S


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_killed_at_random_runs_nothing_finished_again() -> None:
    told = torture_tuning(8, seed=11)

    assert told.wrong == []
    assert told.trials


def test_a_wall_clock_set_while_recording_is_told_and_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder.create(tmp_path / "run.trtune", {})
    recorder.set_worker("running", "x")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - YEAR_NS)
    recorder.beat("running")
    recorder.beat("running")
    before_ns = recorder.clock.now()
    recorder.close()

    with SessionReader(tmp_path / "run.trtune") as reader:
        (event,) = reader.events()
    assert "the wall clock was set back by 31536000 s" in event.text
    assert 0 <= event.t_ns <= before_ns < 60 * NS_PER_S


def test_a_session_gone_on_with_after_the_clock_was_set_does_not_jump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns
    first = Recorder.create(tmp_path / "run.trtune", {})
    monkeypatch.setattr(time, "time_ns", lambda: real() + YEAR_NS)
    first.set_worker("running", "x")  # the clock was wrong at the beginning, and right at the last sign of life
    first.close()

    second = Recorder.resume(tmp_path / "run.trtune")

    assert second.clock.now() < 60 * NS_PER_S
    second.close()
