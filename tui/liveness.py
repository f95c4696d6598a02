"""Tells whether the numbers of a session are of now: from the worker's sign of life, never from the numbers."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from sessions.errors import NotASession
from sessions.holding import is_written
from sessions.text import clean_line
from tui.formatting import span
from tui.snapshot import SessionState

if TYPE_CHECKING:
    from pathlib import Path

    from sessions.records import WorkerStatus

LAG_S = 4.0
"""A worker silent for longer is shown as lagging."""

_WORDS = {"starting": "STARTING", "running": "LIVE", "paused": "PAUSED", "stopping": "STOPPING"}


def session_state(path: Path, worker: WorkerStatus | None, now_utc_ns: int) -> SessionState:
    """The state of a session whose worker last said `worker`."""
    if worker is None:
        return SessionState("NO WORKER", "no worker has written to this file", "dim", live=False, fresh=False)
    if worker.over:
        word, tone = ("DONE", "dim") if worker.state == "done" else ("FAILED", "bad")
        return SessionState(word, worker.text, tone, live=False, fresh=False)  # type: ignore[arg-type]
    silent_s = max(0.0, (now_utc_ns - worker.heartbeat_utc_ns) / NS_PER_S)
    if silent_s <= LAG_S:
        word = _WORDS.get(worker.state, worker.state.upper())
        return SessionState(word, worker.text, "warn" if word == "PAUSED" else "ok", live=True, fresh=True)
    if worker_gone(path, worker):
        text = f"worker gone: resume with  trtune tune --resume {clean_line(path.name)}   (silent for {span(silent_s)})"
        return SessionState("STOPPED", text, "bad", live=False, fresh=False)
    return SessionState(
        f"LAG {span(silent_s)}",
        f"the worker on {worker.host} has been silent for {span(silent_s)}",
        "warn",
        True,
        False,
    )


def worker_gone(path: Path, worker: WorkerStatus) -> bool:
    """Whether the worker ran on this host and holds the session no more; False when that cannot be told.

    Its lock says so and not its process: after a restart of the host another program may have that number.
    """
    if worker.host != platform.node():
        return False
    try:
        return not is_written(path)
    except NotASession:
        return False
