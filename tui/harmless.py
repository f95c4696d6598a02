"""Makes values from a stranger's file harmless: texts are cleaned, and a record with a value of the wrong kind is refused.

SQLite stores any kind of value in any column, so that a file may hold a word where a number belongs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from sessions.errors import DamagedData, SessionError
from sessions.records import Event, LevelRecord, LogLine, Phase, Trial, WorkerStatus
from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Record = TypeVar("Record", Event, LevelRecord, LogLine, Phase, Trial, WorkerStatus)

READ_ERRORS = (SessionError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a file may raise: errors of the reader, and values of a kind that it did not expect."""

MAX_TEXT = 200
"""States, kinds and names are words; whatever is longer is cut."""

_NUMBER = (int, float)
_MAYBE_NUMBER = (int, float, type(None))
_MAYBE_INT = (int, type(None))

TEXTS: Mapping[type, tuple[str, ...]] = {
    Trial: ("kind", "state"),
    LevelRecord: ("kind", "state"),
    Phase: ("name",),
    Event: ("kind",),
    LogLine: ("stream", "level"),
    WorkerStatus: ("state", "text", "host"),
}
"""Texts that the reader gives as they are stored."""

KINDS: Mapping[type, Mapping[str, tuple[type, ...]]] = {
    Trial: {
        "number": (int,),
        "start_ns": (int,),
        "end_ns": _MAYBE_INT,
        "score": _MAYBE_NUMBER,
        "ready_s": _MAYBE_NUMBER,
        "params": (dict,),
        "effective": (dict,),
        "launch": (dict,),
        "result": (dict,),
    },
    LevelRecord: {"value": _NUMBER, "start_ns": (int,), "end_ns": _MAYBE_INT, "result": (dict,)},
    Phase: {"trial": (int,), "start_ns": (int,), "end_ns": _MAYBE_INT},
    Event: {"t_ns": (int,), "trial": _MAYBE_INT},
    LogLine: {"id": (int,), "t_ns": (int,)},
    WorkerStatus: {"pid": (int,), "heartbeat_ns": (int,), "heartbeat_utc_ns": (int,)},
}
"""What the screen counts on."""


def harmless(record: Record) -> Record:
    """The record with its texts cleaned; the very same one when there is nothing to clean.

    Raises:
        DamagedData: If a value is of the wrong kind.
    """
    for name, kinds in KINDS[type(record)].items():
        value = getattr(record, name)
        if not isinstance(value, kinds):
            where = f"{type(record).__name__.lower()} {name}"
            raise DamagedData(f"the session holds a value of the wrong kind: {where} is {clean_line(repr(value))[:40]}")
    changes: dict[str, Any] = {}
    for name in TEXTS[type(record)]:
        text = getattr(record, name)
        clean = clean_line(str(text))[:MAX_TEXT]
        if clean != text:
            changes[name] = clean
    return replace(record, **changes) if changes else record


def all_harmless(records: Iterable[Record]) -> tuple[Record, ...]:
    """All records made harmless."""
    return tuple([harmless(record) for record in records])


MAX_FACT_TEXT = 400


def text(value: object) -> str:
    """A text on one line, cut; empty for anything else."""
    return clean_line(value)[:MAX_FACT_TEXT] if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def count(value: object) -> int:
    """A number of things, 0 where none is told."""
    return int(number(value) or 0)


def scalar(value: object) -> bool | int | float | str | None:
    """The value of a knob; anything that is none becomes a text."""
    if isinstance(value, str):
        return text(value)
    return value if value is None or isinstance(value, bool | int | float) else text(str(value))


def table(value: object) -> Mapping[str, Any]:
    """A table, empty for anything else."""
    return value if isinstance(value, dict) else {}


def values(value: object) -> list[Any]:
    """A list, empty for anything else."""
    return value if isinstance(value, list) else []
