"""The sessions in a folder, each as a few facts; a file that cannot be read is listed with the reason."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessions.reader import SessionReader
from sessions.records import FINISHED_STATES
from sessions.text import clean_line
from tui.facts import session_facts
from tui.harmless import READ_ERRORS, all_harmless, harmless
from tui.liveness import session_state
from tui.snapshot import SessionFacts, SessionState, baseline_trial, best_trial

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sessions.records import Trial

_AT_REST = ("DONE", "FAILED", "NO WORKER")
PATTERN = "*.trtune"


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """One file of the list.

    Attributes:
        path: The file.
        modified_s: When it was last written, in seconds since the epoch.
        size_bytes: Its size.
        facts: What it says about itself, or None if it cannot be read.
        state: Whether its worker writes.
        trials: Trials begun.
        finished: Trials finished.
        length_ns: Latest moment recorded.
        gain_ratio: Best against baseline, or None.
        best: The best trial, or None.
        error: Why it cannot be read, or an empty string.
    """

    path: Path
    modified_s: float
    size_bytes: int
    facts: SessionFacts | None = None
    state: SessionState | None = None
    trials: int = 0
    finished: int = 0
    length_ns: int = 0
    gain_ratio: float | None = None
    best: Trial | None = None
    error: str = ""


def list_sessions(folder: Path, known: Mapping[Path, SessionEntry] | None = None) -> list[SessionEntry]:
    """The sessions of a folder, the last written first.

    Args:
        folder: Where to look.
        known: What was found before: a file that is over and has not changed is not read again.
    """
    known = known or {}
    try:
        paths = [path for path in folder.iterdir() if path.match(PATTERN)]
    except FileNotFoundError:
        return []
    except OSError as error:
        return [SessionEntry(folder, 0.0, 0, error=clean_line(f"{folder}: {error.strerror or error}"))]
    entries = [_unchanged(known.get(path)) or read_entry(path) for path in paths]
    return sorted(entries, key=lambda entry: entry.modified_s, reverse=True)


def _unchanged(entry: SessionEntry | None) -> SessionEntry | None:
    """The entry if its file is what it was and nobody writes to it."""
    if entry is None or (entry.state is not None and entry.state.word not in _AT_REST):
        return None
    try:
        status = entry.path.stat()
    except OSError:
        return None
    return entry if (status.st_mtime, status.st_size) == (entry.modified_s, entry.size_bytes) else None


def read_entry(path: Path) -> SessionEntry:
    """The facts of one file."""
    try:
        status = path.stat()
    except OSError as error:
        return SessionEntry(path, 0.0, 0, error=clean_line(f"{path.name}: {error.strerror or error}"))
    try:
        with SessionReader(path) as reader:
            facts = session_facts(path, reader.meta())
            trials = all_harmless(reader.trials())
            worker = reader.worker()
            worker = worker and harmless(worker)
            length_ns = reader.end_ns()
    except (*READ_ERRORS, OSError) as error:
        return SessionEntry(path, status.st_mtime, status.st_size, error=clean_line(str(error)))
    best, baseline = best_trial(trials, facts.objective, facts.winner), baseline_trial(trials)
    gain = facts.objective.gain_ratio(best.score, baseline.score) if best is not None and baseline is not None else None
    return SessionEntry(
        path=path,
        modified_s=status.st_mtime,
        size_bytes=status.st_size,
        facts=facts,
        state=session_state(path, worker, time.time_ns()),
        trials=len(trials),
        finished=sum(trial.state in FINISHED_STATES for trial in trials),
        length_ns=length_ns,
        gain_ratio=gain,
        best=best,
    )
