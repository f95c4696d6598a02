"""Notes of a person who looks at a session again: kept beside the file, which stays as its worker wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from sessions.records import Event
from tui.harmless import table, text

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".notes"
"""What is added to the name of a session for the file with the notes on it."""

MAX_NOTES_BYTES = 1 << 20
"""A notes file larger than this is not read: it is none of ours."""


def notes_path(session: Path) -> Path:
    """Where the notes on a session are kept: `NAME.trtune.notes`, one JSON object a line."""
    return session.with_name(f"{session.name}{SUFFIX}")


def add_note(session: Path, t_ns: int, told: str) -> None:
    """Keep a note on a moment.

    Raises:
        OSError: If the folder cannot be written.
    """
    with notes_path(session).open("ab") as file:
        file.write(orjson.dumps({"t_ns": t_ns, "text": told}) + b"\n")


def notes_key(session: Path) -> tuple[int, int]:
    """Changes when the notes do."""
    try:
        status = notes_path(session).stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def read_notes(session: Path) -> tuple[Event, ...]:
    """The notes as marks; lines that cannot be understood are left out."""
    path = notes_path(session)
    try:
        if path.stat().st_size > MAX_NOTES_BYTES:
            return ()
        lines = path.read_bytes().splitlines()
    except OSError:
        return ()
    notes = []
    for place, line in enumerate(lines):
        try:
            told = table(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue
        t_ns = told.get("t_ns")
        if isinstance(t_ns, int) and 0 <= t_ns < 1 << 62 and text(told.get("text")):
            notes.append(Event(-1 - place, t_ns, "mark", None, text(told.get("text")), {}))
    return tuple(notes)
