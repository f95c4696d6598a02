"""The transactions of a recorder, and what becomes of them when the disk is full.

Voluminous things wait here and are written by the next transaction; what changes the course of the work is written at
once. While free space shrinks, `sessions.shortage` says what is left out. When a write fails all the same, the reserve is
given back, what is voluminous is dropped and counted, and the trial at hand is written. Only when that fails too there is
nothing more to be done.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from sessions.errors import SessionUnwritable
from sessions.shortage import NO_ARRIVALS, NO_REQUESTS, ONLY_TRIALS, STEPS, free_bytes, step_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sessions.holding import Holding
    from sessions.requests import RequestTable
    from sessions.rollup import RollUp

    Statement = tuple[str, Sequence[tuple[Any, ...]]]

LOOK_EVERY_S = 1.0
"""How often free space is looked at."""

FULL_REST_S = 60.0
"""How long after a failed write recording stays as small as it can be, whatever free space says (a quota, a file-size limit)."""

SAMPLES_WAIT_S = 0.5
"""How long samples wait when nobody flushes: the event loop may have been held up."""

REQUESTS_WAIT_S = 0.75
"""How long finished requests wait for company: larger blocks pack better and are read faster."""

MAX_BLOCK_CHUNKS = 1 << 20
"""Most chunks in a block."""

META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
EVENT = "INSERT INTO event (t_ns, kind, trial, text, data) VALUES (?, ?, ?, ?, ?)"
_SAMPLE = "INSERT OR REPLACE INTO sample VALUES (?, ?, ?)"
_LOG = "INSERT INTO log (t_ns, stream, level, text) VALUES (?, ?, ?, ?)"
_BLOCK = "INSERT INTO request_block (level, start_ns, end_ns, requests, tokens, data) VALUES (?, ?, ?, ?, ?, ?)"
_NOTE = "UPDATE worker SET text = ? WHERE id = 1"


class Writer:
    """Writes in transactions; keeps what can wait.

    Attributes:
        samples: Rows of samples that wait.
        logs: Log lines that wait.
        roll_ups: By source: what sums its samples up.
        worker_text: What the worker is doing, without a word about the disk.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, holding: Holding, now: Callable[[], int]) -> None:
        self.samples: list[tuple[int, int, bytes]] = []
        self.logs: list[tuple[int, str, str, str]] = []
        self.roll_ups: dict[int, RollUp] = {}
        self.worker_text = ""
        self._path = path
        self._connection = connection
        self._holding = holding
        self._now = now
        self._notes: list[Statement] = []
        self._requests: dict[int, list[RequestTable]] = {}
        self._requests_since_s = 0.0
        self._samples_since_s = 0.0
        self._step = 0
        self._look_s = 0.0
        self._rest_until_s = 0.0
        self._left_out = {"arrivals": 0, "requests": 0, "samples": 0, "logs": 0}
        holding.put_by()

    @property
    def note(self) -> str:
        """What is left out and why, for a person; empty while everything is recorded."""
        return f"the disk is nearly full: {STEPS[self._step].text}" if self._step else ""

    def add_sample(self, row: tuple[int, int, bytes]) -> None:
        """Keep a sample for the next transaction, and see to it that this comes soon."""
        if not self.samples:
            self._samples_since_s = time.monotonic()
        self.samples.append(row)
        if time.monotonic() - self._samples_since_s > SAMPLES_WAIT_S:
            self.write()

    def add_requests(self, level: int, table: RequestTable) -> None:
        """Keep finished requests until there are enough for a block."""
        if not self._requests:
            self._requests_since_s = time.monotonic()
        self._requests.setdefault(level, []).append(table)

    def write(self, statements: Sequence[Statement] = (), *, requests: bool = False) -> None:
        """Write what waits, and statements that cannot, in one transaction.

        Args:
            statements: What changes the course of the work.
            requests: Whether requests are written that could still wait for company.

        Raises:
            SessionUnwritable: If the statements cannot be written.
        """
        self._notes += self._look_at_space()
        if self._step >= ONLY_TRIALS:
            self._drop()
        blocks = self._blocks() if requests or self._requests_are_due() else []
        waiting: list[Statement] = [(_SAMPLE, self.samples), (_LOG, self.logs), (_BLOCK, blocks)]
        try:
            self._transact([*waiting, *self._notes, *statements])
        except sqlite3.OperationalError as error:
            if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and not statements:
                return  # another process holds the file for long; the next flush writes it
            self._write_the_least(statements, error)
            return
        self.samples.clear()
        self.logs.clear()
        self._notes.clear()
        if blocks:
            self._requests.clear()

    def insert(self, statement: str, row: tuple[Any, ...]) -> int:
        """Insert one row at once; returns what its RETURNING says.

        Raises:
            SessionUnwritable: If it cannot be written.
        """
        try:
            return self._insert(statement, row)
        except sqlite3.OperationalError as error:
            self._write_the_least((), error)
        try:
            return self._insert(statement, row)
        except sqlite3.OperationalError as error:
            raise self._unwritable(error) from error

    def _insert(self, statement: str, row: tuple[Any, ...]) -> int:
        (value,) = self._connection.execute(statement, row).fetchone()
        return int(value)

    def _transact(self, statements: Sequence[Statement]) -> None:
        work = [(statement, rows) for statement, rows in statements if rows]
        if not work:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, rows in work:
                self._connection.executemany(statement, rows)
            for source, times_ns in self._sample_times().items():
                self.roll_ups[source].advance(times_ns)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for roll_up in self.roll_ups.values():
                roll_up.go_on()
            raise

    def _sample_times(self) -> dict[int, list[int]]:
        times_ns: dict[int, list[int]] = {}
        for source, t_ns, _ in self.samples:
            times_ns.setdefault(source, []).append(t_ns)
        return times_ns

    def _requests_are_due(self) -> bool:
        return bool(self._requests) and time.monotonic() - self._requests_since_s >= REQUESTS_WAIT_S

    def _blocks(self) -> list[tuple[int, int, int, int, int, bytes]]:
        if not self._requests:
            return []
        if self._step >= NO_REQUESTS:
            self._count("requests", sum(len(table) for tables in self._requests.values() for table in tables))
            self._requests.clear()
            return []
        from sessions.requests import RequestTable  # numpy: only where there are requests

        blocks = []
        for level, tables in self._requests.items():
            for part in RequestTable.concat(tables).cut(MAX_BLOCK_CHUNKS):
                if self._step >= NO_ARRIVALS:
                    self._count("arrivals", len(part.chunk_us))
                kept = part.without_arrivals() if self._step >= NO_ARRIVALS else part
                start_ns, end_ns = int(kept.sent_ns.min()), int(kept.end_ns.max())
                tokens = int(kept.osl_tokens[kept.osl_tokens > 0].sum())
                blocks.append((level, start_ns, end_ns, len(kept), tokens, kept.to_blob()))
        return blocks

    def _drop(self) -> None:
        self._count("samples", len(self.samples))
        self._count("logs", len(self.logs))
        self._count("requests", sum(len(table) for tables in self._requests.values() for table in tables))
        self.samples.clear()
        self.logs.clear()
        self._requests.clear()

    def _count(self, what: str, number: int) -> None:
        self._left_out[what] += number

    def _look_at_space(self) -> list[Statement]:
        """Go a step further, or back, as free space says; returns what tells so."""
        now_s = time.monotonic()
        if now_s - self._look_s < LOOK_EVERY_S:
            return []
        self._look_s = now_s
        try:
            free = free_bytes(self._path)
        except OSError:
            return []
        step = step_for(free, self._step)
        if step < self._step and now_s < self._rest_until_s:
            return []
        if step < ONLY_TRIALS:
            self._holding.put_by()
        return self._go_to(step, f"{free / 1e6:.0f} MB left")

    def _go_to(self, step: int, why: str) -> list[Statement]:
        if step == self._step:
            return []
        text = STEPS[step].text if step else "there is room again: everything is recorded"
        self._step = step
        told = {"step": step, "text": text, "left_out": dict(self._left_out)}
        worker = f"{self.worker_text} ({self.note})" if step else self.worker_text
        return [
            (EVENT, [(self._now(), "warning", None, f"disk space ({why}): {text}", orjson.dumps(told).decode())]),
            (META, [("recording", orjson.dumps(told).decode())]),
            (_NOTE, [(worker,)]),
        ]

    def _write_the_least(self, statements: Sequence[Statement], error: sqlite3.OperationalError) -> None:
        """Write only what must be, after a write that failed.

        Raises:
            SessionUnwritable: If that cannot be written either.
        """
        if _code(error) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise self._unwritable(error) from error
        self._holding.spend()
        self._drop()
        self._rest_until_s = time.monotonic() + FULL_REST_S
        self._notes += self._go_to(ONLY_TRIALS, "a write failed")
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        try:
            self._transact([*self._notes, *statements])
        except sqlite3.OperationalError as again:
            raise self._unwritable(again) from again
        self._notes.clear()

    def _unwritable(self, error: sqlite3.OperationalError) -> SessionUnwritable:
        busy = _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        what_to_do = "end the program that keeps it locked" if busy else "make room"
        return SessionUnwritable(
            f"{self._path} cannot be written any more ({error}): {what_to_do}, then go on with --resume"
        )


def _code(error: sqlite3.OperationalError) -> int:
    """SQLite's primary result code."""
    return error.sqlite_errorcode & 0xFF
