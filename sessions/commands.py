"""How a viewer asks the worker for something: by appending a row to the session."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

import orjson

from sessions.errors import SessionError
from sessions.opening import open_writer
from sessions.records import COMMAND_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def send_command(path: Path, kind: str, args: Mapping[str, Any] | None = None) -> int:
    """Ask the worker of a session for something; it picks the row up within 250 ms.

    Args:
        path: The session.
        kind: `pause`, `resume`, `skip` (args: `trial`, or none), `stop`, `enqueue` (args: `params`), `dequeue` (args: `place`),
            `mark` (args: `text`), `range` (args: `knob`, `domain`: a range, choices or one fixed value, as in a plan),
            `objective` (args: `metric`, `stat`, `direction`, `slos`, or `preset`), `prove`, or
            `profile` (args: `action`: `start` or `stop`).
        args: What the command needs.

    Returns:
        The command's id; its `state` and `reply` in the session tell what became of it.

    Raises:
        SessionError: If the file is no session or cannot be written.
    """
    if kind not in COMMAND_KINDS:
        raise ValueError(f"command {kind!r} is unknown; there are: {', '.join(COMMAND_KINDS)}")
    connection = open_writer(path)
    try:
        row = connection.execute(
            "INSERT INTO command (utc_ns, kind, args) VALUES (?, ?, ?) RETURNING id",
            (time.time_ns(), kind, orjson.dumps(dict(args or {})).decode()),
        ).fetchone()
    except sqlite3.OperationalError as error:
        raise SessionError(f"{path} cannot be written ({error}): the command was not sent") from error
    finally:
        connection.close()
    return int(row[0])
