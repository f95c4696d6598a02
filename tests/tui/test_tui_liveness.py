from __future__ import annotations

import os
import platform
from contextlib import closing
from pathlib import Path

from sessions.recorder import Recorder
from sessions.records import WorkerStatus
from tui.liveness import session_state

S = 1_000_000_000
PATH = Path("a.trtune")


def worker(state: str = "running", *, pid: int | None = None, host: str | None = None) -> WorkerStatus:
    return WorkerStatus(pid or os.getpid(), host or platform.node(), state, "working", 0, 0, 1000 * S)


def test_worker_that_has_just_spoken_is_live() -> None:
    state = session_state(PATH, worker(), 1001 * S)

    assert (state.word, state.live, state.fresh) == ("LIVE", True, True)


def test_silent_worker_lags_by_the_second_and_is_not_fresh(tmp_path: Path) -> None:
    with closing(Recorder.create(tmp_path / "a.trtune", {})):
        state = session_state(tmp_path / "a.trtune", worker(), 1012 * S)

    assert (state.word, state.live, state.fresh) == ("LAG 12 s", True, False)


def test_dead_worker_is_told_with_what_to_do_whoever_has_its_number_now(tmp_path: Path) -> None:
    Recorder.create(tmp_path / "a.trtune", {}).close()

    state = session_state(tmp_path / "a.trtune", worker(pid=os.getpid()), 1012 * S)

    assert state.word == "STOPPED"
    assert not state.live
    assert "trtune tune --resume a.trtune" in state.text


def test_worker_of_another_host_is_never_declared_dead() -> None:
    assert session_state(PATH, worker(pid=1 << 22, host="elsewhere"), 1012 * S).word == "LAG 12 s"


def test_worker_that_ended_is_done_or_failed() -> None:
    assert session_state(PATH, worker("done"), 5000 * S).word == "DONE"
    assert session_state(PATH, worker("failed"), 5000 * S).word == "FAILED"


def test_paused_worker_is_live() -> None:
    assert session_state(PATH, worker("paused"), 1000 * S).word == "PAUSED"


def test_file_without_a_worker() -> None:
    assert session_state(PATH, None, 0).word == "NO WORKER"
