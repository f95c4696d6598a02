"""Writes a session: the worker's one hand on the file.

Small and frequent things (samples, log lines, request blocks) are buffered and written by `flush`, which the worker
calls several times a second; whatever changes the course of the work (trials, levels, phases, events) is written at
once. So a killed worker loses less than a second of samples and no finished trial.
"""

from __future__ import annotations

import fcntl
import os
import platform
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from sessions import schema
from sessions.clock import SessionClock
from sessions.columns import COLUMNS
from sessions.errors import NotASession, SessionBusy
from sessions.opening import open_writer
from sessions.records import Command, FailureRecord
from sessions.rollup import RollUp
from sessions.text import clean_line

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sessions.records import Metrics, Params
    from sessions.requests import RequestTable

MAX_LOG_TEXT = 4000
"""Longest log text kept, in characters."""


class Recorder:
    """Appends to one session file; exactly one exists per file, on all of the host.

    Attributes:
        path: The file.
        clock: Session time.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: SessionClock, lock_fd: int) -> None:
        self.path = path
        self.clock = clock
        self._connection = connection
        self._lock_fd = lock_fd
        self._packers: dict[int, struct.Struct] = {}
        self._roll_ups: dict[int, RollUp] = {}
        self._samples: list[tuple[int, int, bytes]] = []
        self._logs: list[tuple[int, str, str, str]] = []
        self._blocks: list[tuple[int, int, int, int, int, bytes]] = []
        self._moment_ns: int | None = None

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, Any], *, clock: SessionClock | None = None) -> Recorder:
        """Begin a session in a new file.

        Args:
            path: Where; nothing may be there.
            meta: What makes the run reproducible: versions, plan, workload. JSON-able, without secrets.
            clock: Session time, if it does not begin now.

        Raises:
            SessionExists: If the path is taken.
        """
        schema.create(path)
        lock_fd = _lock(path)
        connection = open_writer(path)
        clock = clock or SessionClock.start()
        recorder = cls(path, connection, clock, lock_fd)
        recorder.set_meta({"origin_utc_ns": clock.origin_utc_ns, **meta})
        return recorder

    @classmethod
    def resume(cls, path: Path) -> Recorder:
        """Go on with a session whose worker is gone.

        Trials that were running when it ended are marked `interrupted`.

        Raises:
            NotASession: If the file is missing or something else.
            SessionBusy: If a worker is still writing to it.
        """
        connection = open_writer(path)
        try:
            lock_fd = _lock(path)
        except SessionBusy:
            connection.close()
            raise
        schema.migrate(connection)
        row = connection.execute("SELECT value FROM meta WHERE key = 'origin_utc_ns'").fetchone()
        clock = SessionClock.resume(int(orjson.loads(row[0])), _last_ns(connection))
        recorder = cls(path, connection, clock, lock_fd)
        recorder._end_what_was_cut_off()
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
        rows = [(key, orjson.dumps(value).decode()) for key, value in values.items()]
        self._write([("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", rows)])

    def set_worker(self, state: str, text: str) -> None:
        """Say what the worker is doing; also its sign of life."""
        now_ns = self._now()
        row = (os.getpid(), platform.node(), state, clean_line(text), now_ns, now_ns, time.time_ns())
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
        """Give a sign of life, and write everything buffered."""
        row = (state, self._now(), time.time_ns())
        self._write([("UPDATE worker SET state = ?, heartbeat_ns = ?, heartbeat_utc_ns = ? WHERE id = 1", [row])])

    def add_source(self, kind: str, name: str, info: Mapping[str, Any]) -> int:
        """Announce a source of samples, or find it again by kind and name.

        Returns:
            The id to give to `add_sample`.
        """
        columns = COLUMNS[kind]
        packer = struct.Struct("<" + "".join(column.width for column in columns))
        names = orjson.dumps([column.name for column in columns]).decode()
        row = self._connection.execute(
            "INSERT INTO source (kind, name, format, columns, info) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, name) DO UPDATE SET info = excluded.info RETURNING id",
            (kind, name, packer.format, names, orjson.dumps(dict(info)).decode()),
        ).fetchone()
        source = int(row[0])
        self._packers[source] = packer
        self._roll_ups[source] = RollUp(self._connection, source, packer.format)
        return source

    def add_sample(self, source: int, t_ns: int, values: Sequence[float]) -> None:
        """Buffer the numbers of a source, in the order of its columns."""
        self._samples.append((source, t_ns, self._packers[source].pack(*values)))

    def add_requests(self, level: int, table: RequestTable) -> None:
        """Buffer finished requests of a level."""
        if not len(table):
            return
        start_ns, end_ns = int(table.sent_ns.min()), int(table.end_ns.max())
        tokens = int(table.osl_tokens[table.osl_tokens > 0].sum())
        self._blocks.append((level, start_ns, end_ns, len(table), tokens, table.to_blob()))

    def log(self, stream: str, level: str, text: str) -> None:
        """Buffer a log line; control characters are made visible."""
        self._logs.append((self._now(), stream, level, clean_line(text)[:MAX_LOG_TEXT]))

    def event(self, kind: str, text: str, *, trial: int | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Mark this moment on the time axis."""
        row = (self._now(), kind, trial, clean_line(text), orjson.dumps(dict(data or {})).decode())
        self._write([("INSERT INTO event (t_ns, kind, trial, text, data) VALUES (?, ?, ?, ?, ?)", [row])])

    def start_trial(self, kind: str, params: Params) -> int:
        """Begin a trial.

        Returns:
            Its number.
        """
        row = self._connection.execute(
            "INSERT INTO trial (number, kind, state, params, start_ns)"
            " SELECT coalesce(max(number) + 1, 0), ?, 'running', ?, ? FROM trial RETURNING number",
            (kind, orjson.dumps(params).decode(), self._now()),
        ).fetchone()
        return int(row[0])

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

    def start_level(self, trial: int, kind: str, value: float) -> int:
        """Begin a level.

        Returns:
            Its id.
        """
        row = self._connection.execute(
            "INSERT INTO level (trial, kind, value, state, start_ns) VALUES (?, ?, ?, 'running', ?) RETURNING id",
            (trial, kind, value, self._now()),
        ).fetchone()
        return int(row[0])

    def end_level(
        self,
        level: int,
        state: str,
        *,
        window_ns: tuple[int, int] | None = None,
        result: Metrics | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """End a level with its metrics; everything buffered is written first."""
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
        """Take the commands that operators have asked since the last call."""
        rows = self._connection.execute(
            "SELECT id, utc_ns, kind, args, state, reply FROM command WHERE state = 'asked' ORDER BY id"
        ).fetchall()
        if rows:
            self._write([("UPDATE command SET state = 'taken' WHERE id = ?", [(row[0],) for row in rows])])
        return [Command(row[0], row[1], row[2], orjson.loads(row[3]), row[4], row[5]) for row in rows]

    def answer(self, command: Command, state: str, reply: str) -> None:
        """Say what became of a command (`done` or `refused`), and record it as an event."""
        self._update("command", "id", command.id, {"state": state, "reply": clean_line(reply)})
        self.event("command", f"{command.kind}: {reply}", data={"args": dict(command.args), "state": state})

    def flush(self) -> None:
        """Write everything buffered, in one transaction."""
        self._write([])

    def close(self) -> None:
        """Write what is buffered, fold the WAL into the one file, and let go of it."""
        self.flush()
        # A reader may still hold the WAL; then it stays beside the file, which is as good.
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        os.close(self._lock_fd)

    def _now(self) -> int:
        return self.clock.now() if self._moment_ns is None else self._moment_ns

    def _update(self, table: str, key: str, identity: int, values: Mapping[str, Any]) -> None:
        assignments = ", ".join(f"{name} = ?" for name in values)
        statement = f"UPDATE {table} SET {assignments} WHERE {key} = ?"  # noqa: S608 - names are ours
        if values:
            self._write([(statement, [(*values.values(), identity)])])

    def _write(self, statements: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        buffered: list[tuple[str, Sequence[tuple[Any, ...]]]] = [
            ("INSERT OR REPLACE INTO sample VALUES (?, ?, ?)", self._samples),
            ("INSERT INTO log (t_ns, stream, level, text) VALUES (?, ?, ?, ?)", self._logs),
            (
                "INSERT INTO request_block (level, start_ns, end_ns, requests, tokens, data) VALUES (?, ?, ?, ?, ?, ?)",
                self._blocks,
            ),
        ]
        work = [(statement, rows) for statement, rows in [*buffered, *statements] if rows]
        if not work:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, rows in work:
                self._connection.executemany(statement, rows)
            for source, times_ns in self._sample_times().items():
                self._roll_ups[source].advance(times_ns)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._samples.clear()
        self._logs.clear()
        self._blocks.clear()

    def _sample_times(self) -> dict[int, list[int]]:
        times_ns: dict[int, list[int]] = {}
        for source, t_ns, _ in self._samples:
            times_ns.setdefault(source, []).append(t_ns)
        return times_ns

    def _end_what_was_cut_off(self) -> None:
        now_ns = _last_ns(self._connection)
        self._write(
            [
                ("UPDATE phase SET end_ns = ? WHERE end_ns IS NULL", [(now_ns,)]),
                ("UPDATE level SET end_ns = ?, state = 'aborted' WHERE state = 'running'", [(now_ns,)]),
                ("UPDATE trial SET end_ns = ?, state = 'interrupted' WHERE state = 'running'", [(now_ns,)]),
                (
                    "UPDATE command SET state = 'refused', reply = ? WHERE state = 'taken'",
                    [("the worker had ended",)],
                ),
            ]
        )


def is_written(path: Path) -> bool:
    """Whether a worker on this host is writing to the session now.

    Raises:
        NotASession: If the file is missing.
    """
    try:
        os.close(_lock(path))
    except SessionBusy:
        return True
    except OSError as error:
        raise NotASession(f"{path}: {error.strerror}") from error
    return False


def _lock(path: Path) -> int:
    """Take the one writer's lock; it goes away with the process, however that ends."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise SessionBusy(f"{path} is being written by another worker: attach to it, or stop it first") from error
    return fd


def _last_ns(connection: sqlite3.Connection) -> int:
    """Latest session time that anything in the file carries."""
    row = connection.execute(
        "SELECT max(coalesce((SELECT max(heartbeat_ns) FROM worker), 0),"
        " coalesce((SELECT max(t_ns) FROM log), 0),"
        " coalesce((SELECT max(t_ns) FROM event), 0),"
        " coalesce((SELECT max(start_ns) FROM trial), 0),"
        " coalesce((SELECT max(end_ns) FROM trial), 0),"
        " coalesce((SELECT max(end_ns) FROM phase), 0))"
    ).fetchone()
    return int(row[0])
