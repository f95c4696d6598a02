"""Writes a session: the worker's one hand on the file.

Small and frequent things (samples, log lines, request blocks) are buffered and written by `flush`, which the worker
calls several times a second; whatever changes the course of the work (trials, levels, phases, events) is written at
once. So a killed worker loses less than a second of samples and requests, and no finished trial. `sessions.writing` says what
happens when the disk is full.
"""

from __future__ import annotations

import math
import os
import platform
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import orjson

from sessions import rows, schema
from sessions.clock import NS_PER_S, SessionClock
from sessions.columns import COLUMNS
from sessions.errors import DamagedData, SessionUnwritable
from sessions.holding import fold_wal, held
from sessions.json_values import listed
from sessions.opening import open_writer
from sessions.resuming import end_of_what_was_cut_off, going_on
from sessions.rollup import RollUp
from sessions.text import clean_line
from sessions.writing import EVENT, META, Writer

if TYPE_CHECKING:
    import struct
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sessions.holding import Holding
    from sessions.records import Command, FailureRecord, Metrics, Params, Rescored
    from sessions.requests import RequestTable
    from sessions.writing import Statement

MAX_LOG_TEXT = 4000
"""Longest log text kept, in characters."""

CLOCK_STEP_NS = 2 * NS_PER_S
"""A wall clock that moves by more against session time was set."""


class Recorder:
    """Appends to one session file; exactly one exists per file, on all of the host.

    Attributes:
        path: The file.
        clock: Session time.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: SessionClock, holding: Holding) -> None:
        self.path = path
        self.clock = clock
        self._connection = connection
        self._holding = holding
        self._writer = Writer(path, connection, holding, lambda: self.clock.now())
        self._packers: dict[int, struct.Struct] = {}
        self._places: dict[int, list[int | None] | None] = {}
        self._moment_ns: int | None = None
        self._wall_clock_ns = self._wall_clock_offset_ns()

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any], *, clock: SessionClock | None = None) -> Self:
        """Begin a session in a new file.

        Args:
            path: Where; nothing may be there.
            meta: What makes the run reproducible: versions, plan, workload. JSON-able, without secrets.
            clock: Session time, if it does not begin now.

        Raises:
            SessionExists: If the path is taken.
        """
        schema.create(path)
        with held(path) as (connection, holding):
            recorder = cls(path, connection, clock or SessionClock.start(), holding)
            recorder.set_meta({"origin_utc_ns": recorder.clock.origin_utc_ns, **meta})
        return recorder

    @classmethod
    def resume(cls, path: Path) -> Recorder:
        """Go on with a session whose worker is gone; one of an older format is brought up to date.

        Trials that were running when it ended are marked `interrupted`.

        Raises:
            NotASession: If the file is missing or something else.
            DamagedData: If it does not say when it began.
            SessionBusy: If a worker is still writing to it.
            SessionUnwritable: If the folder cannot be written.
        """
        open_writer(path).close()  # something else than a session is left without a trace
        with held(path) as (connection, holding):
            schema.migrate(connection)
            recorder = cls(path, connection, going_on(connection), holding)
            recorder._write(end_of_what_was_cut_off(connection))
        return recorder

    @contextmanager
    def at(self, t_ns: int) -> Iterator[None]:
        """Within it, what is recorded happened at this session time: for what another host saw and tells later."""
        self._moment_ns = t_ns
        try:
            yield
        finally:
            self._moment_ns = None

    def set_meta(self, values: Mapping[str, Any]) -> None:
        """Store facts about the session by key; an existing key is replaced."""
        self._writer.write([(META, _facts(values))])

    def set_worker(self, state: str, text: str) -> None:
        """Say what the worker is doing; also its sign of life."""
        now_ns = self._now()
        self._writer.worker_text = clean_line(text)
        note = f" ({self._writer.note})" if self._writer.note else ""
        row = (os.getpid(), platform.node(), state, self._writer.worker_text + note, now_ns, now_ns, time.time_ns())
        self._write(
            [
                (
                    "INSERT INTO worker VALUES (1, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                    " pid = excluded.pid, host = excluded.host, state = excluded.state, text = excluded.text,"
                    " started_ns = CASE WHEN pid = excluded.pid THEN started_ns ELSE excluded.started_ns END,"
                    " heartbeat_ns = excluded.heartbeat_ns, heartbeat_utc_ns = excluded.heartbeat_utc_ns",
                    [row],
                )
            ]
        )

    def beat(self, state: str) -> None:
        """Give a sign of life, write everything buffered, and tell when the wall clock was set."""
        row = (state, self._now(), time.time_ns())
        self._write([("UPDATE worker SET state = ?, heartbeat_ns = ?, heartbeat_utc_ns = ? WHERE id = 1", [row])])
        offset_ns = self._wall_clock_offset_ns()
        moved_ns, self._wall_clock_ns = offset_ns - self._wall_clock_ns, offset_ns
        if abs(moved_ns) > CLOCK_STEP_NS:
            way = "forward" if moved_ns > 0 else "back"
            text = f"the wall clock was set {way} by {abs(moved_ns) / NS_PER_S:.0f} s; times in the session are not touched"
            self.event("warning", text)

    def _wall_clock_offset_ns(self) -> int:
        return time.time_ns() - self.clock.to_utc_ns(self.clock.now())

    def add_source(self, kind: str, name: str, info: Mapping[str, Any]) -> int:
        """Announce a source of samples, or find it again by kind and name.

        Returns:
            The id to give to `add_sample`.

        Raises:
            DamagedData: If a session that is gone on with describes the source as none of ours.
        """
        names = [column.name for column in COLUMNS[kind]]
        format_ = "<" + "".join(column.width for column in COLUMNS[kind])
        source = self._writer.insert(
            "INSERT INTO source (kind, name, format, columns, info) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, name) DO UPDATE SET info = excluded.info RETURNING id",
            (kind, name, format_, orjson.dumps(names).decode(), orjson.dumps(dict(info)).decode()),
        )
        row = self._connection.execute("SELECT format, columns FROM source WHERE id = ?", (source,)).fetchone()
        kept = [rows.word(each) for each in listed(rows.json_of(row[1]))]
        self._packers[source] = rows.safe_struct(row[0], len(kept))
        # A session that another version began keeps its columns: what it does not know is left out.
        self._places[source] = (
            [names.index(each) if each in names else None for each in kept] if kept != names else None
        )
        self._writer.roll_ups[source] = RollUp(self._connection, source, row[0])
        return source

    def add_sample(self, source: int, t_ns: int, values: Sequence[float]) -> None:
        """Buffer the numbers of a source, in the order of its columns."""
        places = self._places[source]
        if places is not None:
            values = [math.nan if place is None else values[place] for place in places]
        self._writer.add_sample((source, t_ns, self._packers[source].pack(*values)))

    def add_requests(self, level: int, table: RequestTable) -> None:
        """Buffer finished requests of a level."""
        if len(table):
            self._writer.add_requests(level, table)

    def log(self, stream: str, level: str, text: str) -> None:
        """Buffer a log line; control characters are made visible."""
        self._writer.logs.append((self._now(), stream, level, clean_line(text)[:MAX_LOG_TEXT]))

    def event(self, kind: str, text: str, *, trial: int | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Mark this moment on the time axis."""
        row = (self._now(), kind, trial, clean_line(text), orjson.dumps(dict(data or {})).decode())
        self._writer.write([(EVENT, [row])])

    def start_trial(self, kind: str, params: Params, number: int | None = None) -> int:
        """Begin a trial.

        Args:
            kind: Why it is run.
            params: Its configuration.
            number: Its number; None: the next one.

        Returns:
            Its number.
        """
        return self._writer.insert(
            "INSERT INTO trial (number, kind, state, params, start_ns)"
            " SELECT coalesce(?, max(number) + 1, 0), ?, 'running', ?, ? FROM trial RETURNING number",
            (number, kind, orjson.dumps(params).decode(), self._now()),
        )

    def update_trial(
        self,
        number: int,
        *,
        effective: Params | None = None,
        launch: Mapping[str, Any] | None = None,
        ready_s: float | None = None,
    ) -> None:
        """Add what has become known about a running trial."""
        given = {
            "effective": None if effective is None else orjson.dumps(effective).decode(),
            "launch": None if launch is None else orjson.dumps(dict(launch)).decode(),
            "ready_s": ready_s,
        }
        self._update("trial", "number", number, {key: value for key, value in given.items() if value is not None})

    def end_trial(
        self,
        number: int,
        state: str,
        *,
        score: float | None = None,
        feasible: bool | None = None,
        result: Metrics | None = None,
        failure: FailureRecord | None = None,
    ) -> None:
        """End a trial, its open phase included."""
        self.end_phase(number)
        told = None
        if failure is not None:
            told = orjson.dumps(
                {
                    "kind": failure.kind,
                    "text": clean_line(failure.text),
                    "line": clean_line(failure.line)[:MAX_LOG_TEXT],
                    "accuses": list(failure.accuses),
                }
            ).decode()
        self._update(
            "trial",
            "number",
            number,
            {
                "state": state,
                "end_ns": self._now(),
                "score": score,
                "feasible": feasible,
                "result": orjson.dumps(result or {}).decode(),
                "failure": told,
            },
        )

    def rescore(self, scores: Sequence[Rescored], levels: Mapping[int, Metrics], meta: Mapping[str, Any]) -> None:
        """Give finished trials and levels the results that another objective makes of them, all at once or not at all.

        Args:
            scores: New scores of trials.
            levels: New metrics of levels by id.
            meta: Facts about the session that change with them.
        """
        trials = [(each.score, each.feasible, orjson.dumps(each.result).decode(), each.trial) for each in scores]
        results = [(orjson.dumps(result).decode(), identity) for identity, result in levels.items()]
        self._writer.write(
            [
                ("UPDATE trial SET score = ?, feasible = ?, result = ? WHERE number = ?", trials),
                ("UPDATE level SET result = ? WHERE id = ?", results),
                (META, _facts(meta)),
            ]
        )

    def start_level(self, trial: int, kind: str, value: float) -> int:
        """Begin a level.

        Returns:
            Its id.
        """
        return self._writer.insert(
            "INSERT INTO level (trial, kind, value, state, start_ns) VALUES (?, ?, ?, 'running', ?) RETURNING id",
            (trial, kind, value, self._now()),
        )

    def end_level(
        self,
        level: int,
        state: str,
        *,
        window_ns: tuple[int, int] | None = None,
        result: Metrics | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """End a level with its metrics; everything buffered is written with it."""
        self._update(
            "level",
            "id",
            level,
            {
                "state": state,
                "end_ns": self._now(),
                "window_start_ns": window_ns[0] if window_ns else None,
                "window_end_ns": window_ns[1] if window_ns else None,
                "result": orjson.dumps(result or {}).decode(),
                "notes": orjson.dumps([clean_line(note) for note in notes]).decode(),
            },
        )

    def start_phase(self, trial: int, name: str, level: int | None = None) -> None:
        """Begin a phase of a trial; the one before ends now."""
        now_ns = self._now()
        self._write(
            [
                ("UPDATE phase SET end_ns = ? WHERE trial = ? AND end_ns IS NULL", [(now_ns, trial)]),
                (
                    "INSERT INTO phase (trial, level, name, start_ns) VALUES (?, ?, ?, ?)",
                    [(trial, level, name, now_ns)],
                ),
            ]
        )

    def end_phase(self, trial: int) -> None:
        """End the open phase of a trial."""
        self._write([("UPDATE phase SET end_ns = ? WHERE trial = ? AND end_ns IS NULL", [(self._now(), trial)])])

    def commands(self) -> list[Command]:
        """Take the commands that operators have asked since the last call; one that cannot be read is refused."""
        asked = self._connection.execute(
            "SELECT id, utc_ns, kind, args, state, reply FROM command WHERE state = 'asked' ORDER BY id"
        ).fetchall()
        if asked:
            self._write([("UPDATE command SET state = 'taken' WHERE id = ?", [(row[0],) for row in asked])])
        found = []
        for row in asked:
            try:
                found.append(rows.command_of(row))
            except DamagedData as error:
                self._update("command", "id", row[0], {"state": "refused", "reply": clean_line(str(error))})
        return found

    def answer(self, command: Command, state: str, reply: str) -> None:
        """Say what became of a command (`done` or `refused`), and record it as an event."""
        self._update("command", "id", command.id, {"state": state, "reply": clean_line(reply)})
        self.event("command", f"{command.kind}: {reply}", data={"args": dict(command.args), "state": state})

    def flush(self) -> None:
        """Write everything buffered, in one transaction; requests wait up to `writing.REQUESTS_WAIT_S` for company."""
        self._write([])

    def close(self) -> None:
        """Write what is buffered, fold the WAL into the one file, and let go of it."""
        with suppress(SessionUnwritable):
            self._writer.write(requests=True)
        with suppress(sqlite3.Error):
            # A reader may still hold the WAL, or the disk be full; then it stays beside the file, which is as good.
            fold_wal(self._connection)
        with suppress(sqlite3.Error):
            self._connection.close()
        self._holding.close()

    def _now(self) -> int:
        return self.clock.now() if self._moment_ns is None else self._moment_ns

    def _update(self, table: str, key: str, identity: int, values: Mapping[str, Any]) -> None:
        assignments = ", ".join(f"{name} = ?" for name in values)
        statement = f"UPDATE {table} SET {assignments} WHERE {key} = ?"  # noqa: S608 - names are ours
        if values:
            self._write([(statement, [(*values.values(), identity)])], requests=table == "level")

    def _write(self, statements: Sequence[Statement], *, requests: bool = False) -> None:
        self._writer.write(statements, requests=requests)


def _facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, orjson.dumps(value).decode()) for key, value in values.items()]
