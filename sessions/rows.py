"""Turns rows of a session into records.

A stranger's file may hold anything anywhere: what has the wrong kind is left out where the record can do without it, and
is damage where it cannot.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import orjson

from sessions.errors import DamagedData
from sessions.records import RUNNING, Command, Event, FailureRecord, LevelRecord, Phase, Source, Trial
from sessions.text import clean_line

if TYPE_CHECKING:
    from sessions.records import Metrics, Params

MAX_TIME_NS = 1 << 62
"""Times beyond (146 years from the session's begin) are damage."""

MAX_COLUMNS = 200

_DEEP_BYTES = 500
"""A shorter text cannot be nested too deeply."""


def number(value: Any) -> float | None:
    """A stored number, or None for anything else."""
    return float(value) if isinstance(value, int | float) else None


def integer(value: Any) -> int:
    """A stored identity, count or time.

    Raises:
        DamagedData: If it is something else, or beyond every time.
    """
    if not isinstance(value, int) or not -MAX_TIME_NS <= value <= MAX_TIME_NS:
        raise DamagedData(f"the session holds {clean_line(repr(value))[:60]} where a whole number belongs")
    return value


def optional_integer(value: Any) -> int | None:
    """The same, or None where nothing is stored."""
    return None if value is None else integer(value)


def word(value: Any) -> str:
    """A stored text, harmless."""
    return clean_line(str(value))


def json_of(text: Any) -> Any:
    """A stored JSON value.

    Raises:
        DamagedData: If it is no JSON, or nested so deeply that it cannot be handed on.
    """
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise DamagedData(f"the session holds text that is not JSON: {clean_line(str(error))}") from error
    if len(text) > _DEEP_BYTES:
        try:
            orjson.dumps(value)  # it reads deeper nesting than it writes, and than Python shows
        except TypeError as error:
            raise DamagedData(f"the session holds JSON that is not made as a session's is: {error}") from error
    return value


def table(text: Any, kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """A stored JSON object, without values of other kinds."""
    told = json_of(text)
    if not isinstance(told, dict):
        return {}
    return {word(key): value for key, value in told.items() if value is None or isinstance(value, kinds)}


def trial_of(row: tuple[Any, ...], at_ns: int) -> Trial:
    """A trial as it stood at a moment."""
    place, kind, state, asked, start_ns, end_ns, effective, launch, ready_s, score, feasible, result, failure = row
    ended_ns = optional_integer(end_ns)
    over = ended_ns is not None and ended_ns <= at_ns
    told = json_of(failure) if over and failure else None
    return Trial(
        number=integer(place),
        kind=word(kind),
        state=word(state) if over else RUNNING,
        params=_params(asked),
        start_ns=integer(start_ns),
        end_ns=ended_ns if over else None,
        effective=_params(effective),
        launch=table(launch, (str, list, dict)),
        ready_s=number(ready_s),
        score=number(score) if over else None,
        feasible=None if feasible is None or not over else bool(feasible),
        result=_metrics(result) if over else {},
        failure=_failure(told) if isinstance(told, dict) else None,
    )


def level_of(row: tuple[Any, ...], at_ns: int) -> LevelRecord:
    """A level as it stood at a moment."""
    identity, trial, kind, value, state, start_ns, end_ns, window_start_ns, window_end_ns, result, notes = row
    ended_ns = optional_integer(end_ns)
    over = ended_ns is not None and ended_ns <= at_ns
    opened_ns, closed_ns = optional_integer(window_start_ns), optional_integer(window_end_ns)
    window = None if opened_ns is None or closed_ns is None else (opened_ns, closed_ns)
    return LevelRecord(
        id=integer(identity),
        trial=integer(trial),
        kind=word(kind),
        value=number(value) or 0.0,
        state=word(state) if over else RUNNING,
        start_ns=integer(start_ns),
        end_ns=ended_ns if over else None,
        window_ns=window if over else None,
        result=_metrics(result) if over else {},
        notes=_notes(notes) if over else (),
    )


def phase_of(row: tuple[Any, ...], at_ns: int) -> Phase:
    """A phase as it stood at a moment."""
    trial, level, name, start_ns, end_ns = row
    ended_ns = optional_integer(end_ns)
    over = ended_ns is not None and ended_ns <= at_ns
    return Phase(integer(trial), optional_integer(level), word(name), integer(start_ns), ended_ns if over else None)


def event_of(row: tuple[Any, ...]) -> Event:
    """A mark on the time axis."""
    identity, t_ns, kind, trial, text, data = row
    kinds = (bool, int, float, str, dict, list)
    return Event(integer(identity), integer(t_ns), word(kind), optional_integer(trial), word(text), table(data, kinds))


def command_of(row: tuple[Any, ...]) -> Command:
    """What an operator asked."""
    identity, utc_ns, kind, args, state, reply = row
    kinds = (bool, int, float, str, list, dict)
    return Command(integer(identity), integer(utc_ns), word(kind), table(args, kinds), word(state), word(reply))


def source_of(row: tuple[Any, ...]) -> Source:
    """A source of samples."""
    identity, kind, name, columns, info = row
    names = json_of(columns)
    if not isinstance(names, list) or len(names) > MAX_COLUMNS:
        raise DamagedData("the session describes a source of samples without a list of its columns")
    facts = table(info, (bool, int, float, str, list, dict))
    texts = {key: clean_line(value) if isinstance(value, str) else value for key, value in facts.items()}
    return Source(integer(identity), word(kind), word(name), tuple(word(each) for each in names), texts)


def safe_struct(format_: Any, columns: int) -> struct.Struct:
    """The struct of a stored format.

    Raises:
        DamagedData: If it is anything but `<` and as many `f` and `d` as there are columns.
    """
    told = str(format_)
    if told[:1] != "<" or set(told[1:]) - {"f", "d"} or len(told) - 1 != columns:
        raise DamagedData(f"the session describes its samples by {clean_line(told)[:60]!r}, which is no format of ours")
    return struct.Struct(told)


def _params(text: Any) -> Params:
    told = table(text, (bool, int, float, str))
    return {name: clean_line(value) if isinstance(value, str) else value for name, value in told.items()}


def _metrics(text: Any) -> Metrics:
    return {
        name: {word(stat): float(value) for stat, value in stats.items() if isinstance(value, int | float)}
        for name, stats in table(text, dict).items()
        if stats is not None
    }


def _failure(told: dict[str, Any]) -> FailureRecord:
    accused = told.get("accuses", ())
    return FailureRecord(
        kind=word(told.get("kind", "")),
        text=word(told.get("text", "")),
        line=word(told.get("line", "")),
        accuses=tuple(word(name) for name in accused) if isinstance(accused, list) else (),
    )


def _notes(text: Any) -> tuple[str, ...]:
    told = json_of(text)
    return tuple(word(note) for note in told) if isinstance(told, list) else ()
