"""Is a session whole, and does it contradict itself? Every row and every blob is read and decoded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sessions import rows, schema
from sessions.errors import DamagedData
from sessions.opening import open_read_only
from sessions.records import FINISHED_STATES, RUNNING
from sessions.requests import RequestTable
from sessions.rollup import WIDTHS_S, span_struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_PROBLEMS = 100
"""Problems told; more are counted."""

TRIAL_STATES = (RUNNING, "interrupted", *FINISHED_STATES)
LEVEL_STATES = (RUNNING, "valid", "invalid", "aborted")

_FOREVER = rows.MAX_TIME_NS
_ROW_CHECKS: dict[str, tuple[str, Callable[[tuple[Any, ...]], Any]]] = {
    "meta": ("key, value", lambda row: rows.json_of(row[1])),
    "source": ("id, kind, name, columns, info", rows.source_of),
    "trial": (
        "number, kind, state, params, start_ns, end_ns, effective, launch, ready_s, score, feasible, result, failure",
        lambda row: rows.trial_of(row, _FOREVER),
    ),
    "level": (
        "id, trial, kind, value, state, start_ns, end_ns, window_start_ns, window_end_ns, result, notes",
        lambda row: rows.level_of(row, _FOREVER),
    ),
    "phase": ("trial, level, name, start_ns, end_ns", lambda row: rows.phase_of(row, _FOREVER)),
    "event": ("id, t_ns, kind, trial, text, data", rows.event_of),
    "command": ("id, utc_ns, kind, args, state, reply", rows.command_of),
}
"""Table to its columns and what reads a row of it."""

_CONTRADICTIONS = (
    ("trial", "number", "end_ns < start_ns", "ends before it starts"),
    ("level", "id", "end_ns < start_ns", "ends before it starts"),
    ("phase", "id", "end_ns < start_ns", "ends before it starts"),
    ("level", "id", "window_end_ns < window_start_ns", "has a window that closes before it opens"),
    ("level", "id", "window_start_ns < start_ns OR window_end_ns > end_ns", "has a window outside itself"),
    ("request_block", "id", "end_ns < start_ns", "ends before it starts"),
    ("level", "id", "trial NOT IN (SELECT number FROM trial)", "belongs to a trial that is not there"),
    ("phase", "id", "trial NOT IN (SELECT number FROM trial)", "belongs to a trial that is not there"),
    ("request_block", "id", "level NOT IN (SELECT id FROM level)", "belongs to a level that is not there"),
    ("trial", "number", "state <> 'running' AND end_ns IS NULL", "is over and has no end"),
    ("trial", "number", f"state NOT IN {TRIAL_STATES}", "is in a state that there is not"),
    ("level", "id", f"state NOT IN {LEVEL_STATES}", "is in a state that there is not"),
    ("log", "id", "typeof(t_ns) <> 'integer' OR typeof(text) <> 'text'", "holds values of the wrong kind"),
)
"""Table, its key, a condition that must never hold, and what it means."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a session.

    Attributes:
        where: Table and row, such as `trial 7`.
        text: What is wrong.
    """

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(slots=True)
class Verification:
    """What was looked at and what was found.

    Attributes:
        problems: The first `MAX_PROBLEMS`.
        problem_count: How many there are.
        rows: How many rows each table holds.
        version: Format of the file.
    """

    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    version: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem_count

    def add(self, where: str, text: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(where, rows.word(text)[:300]))


def verify(path: Path) -> Verification:
    """Look at everything in a session.

    Raises:
        NotASession: If it cannot be opened as one at all.
        NewerSession: If a newer trtune wrote it.
    """
    found = Verification()
    with closing(open_read_only(path)) as connection:
        (found.version,) = connection.execute("PRAGMA user_version").fetchone()
        for name, part in (
            ("file", _pages),
            ("file", _rows),
            ("file", _contradictions),
            ("sample", _samples),
            ("request_block", _request_blocks),
        ):
            try:
                for where, text in part(connection, found):
                    found.add(where, text)
            except (sqlite3.Error, DamagedData, UnicodeDecodeError) as error:
                found.add(name, str(error))
    return found


def _pages(connection: sqlite3.Connection, found: Verification) -> Iterator[tuple[str, str]]:
    for (told,) in connection.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})"):
        if told != "ok":
            yield "file", str(told)
    for table in sorted(schema.tables(found.version)):
        (found.rows[table],) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - names are ours


def _rows(connection: sqlite3.Connection, found: Verification) -> Iterator[tuple[str, str]]:
    for table, (columns, check) in _ROW_CHECKS.items():
        for row in connection.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608 - names are ours
            try:
                check(row)
            except DamagedData as error:
                yield f"{table} {rows.word(row[0])[:40]}", str(error)


def _contradictions(connection: sqlite3.Connection, found: Verification) -> Iterator[tuple[str, str]]:
    for table, key, condition, text in _CONTRADICTIONS:
        for (identity,) in connection.execute(f"SELECT {key} FROM {table} WHERE {condition}"):  # noqa: S608 - ours
            yield f"{table} {rows.word(identity)[:40]}", text


def _samples(connection: sqlite3.Connection, found: Verification) -> Iterator[tuple[str, str]]:
    for identity, columns, format_ in connection.execute("SELECT id, columns, format FROM source").fetchall():
        names = rows.json_of(columns)
        packed = rows.safe_struct(format_, len(names) if isinstance(names, list) else -1)
        (wrong,) = connection.execute(
            "SELECT count(*) FROM sample WHERE source = ?"
            " AND (length(data) <> ? OR typeof(data) <> 'blob' OR typeof(t_ns) <> 'integer')",
            (identity, packed.size),
        ).fetchone()
        if wrong:
            yield f"source {identity}", f"{wrong} samples are damaged"
        if "rollup" in schema.tables(found.version):
            (wrong,) = connection.execute(
                f"SELECT count(*) FROM rollup WHERE source = ? AND (length(data) <> ? OR width_s NOT IN {WIDTHS_S})",  # noqa: S608
                (identity, span_struct(packed.format).size),
            ).fetchone()
            if wrong:
                yield f"source {identity}", f"{wrong} spans are damaged"
    (strange,) = connection.execute(
        "SELECT count(*) FROM sample WHERE source NOT IN (SELECT id FROM source)"
    ).fetchone()
    if strange:
        yield "sample", f"{strange} samples belong to no source"


def _request_blocks(connection: sqlite3.Connection, found: Verification) -> Iterator[tuple[str, str]]:
    told = "SELECT id, start_ns, end_ns, requests, tokens, data FROM request_block"
    for identity, start_ns, end_ns, requests, tokens, data in connection.execute(told):
        try:
            table = RequestTable.from_blob(data)
        except (DamagedData, TypeError) as error:
            yield f"request_block {identity}", str(error)
            continue
        held = int(table.osl_tokens[table.osl_tokens > 0].sum())
        if (len(table), held) != (requests, tokens):
            yield f"request_block {identity}", f"says {requests} requests, {tokens} tokens; holds {len(table)}, {held}"
        elif len(table) and (int(table.sent_ns.min()), int(table.end_ns.max())) != (start_ns, end_ns):
            yield f"request_block {identity}", "says other times than its requests do"
