"""Who writes a session: one process at a time, told by a lock; and a little disk space put by for the day it runs out.

Both are one file beside the session (`NAME.trtune-worker`), there while a worker writes. The lock is on that file and not on the
session, because closing any descriptor of a file drops the locks SQLite holds on it. The lock goes away with the process,
however that ends; a file left by a killed worker holds nothing back.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

from sessions.errors import NotASession, SessionBusy, SessionError, SessionUnwritable
from sessions.opening import open_writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = "-worker"
RESERVE_BYTES = 8 << 20
"""Space put by: what SQLite's WAL may grow to before it is folded in, twice."""

FOLD_WAIT_MS = 500
"""How long the end of a session waits for its readers."""

SETTLE_WAIT_S = 2.0
"""How long a reader that looked on to the end waits for the worker to be gone."""

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def holding_path(path: Path) -> Path:
    """The file beside a session."""
    return path.with_name(path.name + SUFFIX)


class Holding:
    """The right to write a session."""

    def __init__(self, path: Path) -> None:
        """Take it.

        Raises:
            SessionBusy: If another worker has it.
            SessionUnwritable: If the folder cannot be written.
        """
        self._path = holding_path(path)
        self._fd = _take(path, self._path)

    def put_by(self) -> bool:
        """Put the reserve by, if it is not; returns whether it is. Where the system cannot (macOS), there is none."""
        if not hasattr(os, "posix_fallocate"):
            return False
        try:
            os.posix_fallocate(self._fd, 0, RESERVE_BYTES)
        except OSError:
            self.spend()
            return False
        return True

    def spend(self) -> None:
        """Give the reserve back to the disk."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Give the right up."""
        with suppress(OSError):  # the folder may have become read-only
            self._path.unlink(missing_ok=True)
        os.close(self._fd)


@contextmanager
def held(path: Path) -> Iterator[tuple[sqlite3.Connection, Holding]]:
    """A session and the right to write it, both let go of again when the work does not begin.

    Raises:
        SessionBusy: If another worker has it.
        SessionUnwritable: If nothing can be written.
    """
    with ExitStack() as stack:
        holding = Holding(path)
        stack.callback(holding.close)
        try:
            connection = open_writer(path)
            stack.callback(connection.close)
            yield connection, holding
        except sqlite3.Error as error:
            raise SessionUnwritable(f"{path} cannot be written: {error}") from error
        stack.pop_all()


def fold_wal(connection: sqlite3.Connection) -> None:
    """Make one plain file of a session that is over, which is read where nothing can be written, and without traces.

    Raises:
        sqlite3.Error: If somebody else holds the file, or the disk is full.
    """
    connection.execute(f"PRAGMA busy_timeout = {FOLD_WAIT_MS}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA journal_mode = DELETE")


def settle(path: Path) -> None:
    """Fold the WAL of a session that is over, for a worker that could not since we were looking on.

    Nothing happens while anybody else looks on, or writes for longer than a worker takes to leave.
    """
    deadline_s = time.monotonic() + SETTLE_WAIT_S
    while True:
        try:
            with held(path) as (connection, holding):
                with suppress(sqlite3.Error), closing(connection):
                    fold_wal(connection)
                holding.close()
        except SessionBusy:
            if time.monotonic() < deadline_s:
                time.sleep(0.05)
                continue
        except SessionError:
            pass
        return


def is_written(path: Path) -> bool:
    """Whether a worker on this host is writing to the session now.

    Raises:
        NotASession: If the file is missing.
    """
    if not path.is_file():
        raise NotASession(f"{path}: no such session file")
    try:
        fd = os.open(holding_path(path), _LOOK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _take(path: Path, beside: Path) -> int:
    while True:
        try:
            fd = os.open(beside, _OPEN, 0o644)
        except OSError as error:
            raise SessionUnwritable(f"{path} cannot be written: {error.strerror} ({beside.parent})") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise SessionBusy(f"{path} is being written by another worker: attach to it, or stop it first") from error
        with suppress(OSError):
            if os.fstat(fd).st_ino == beside.stat().st_ino:
                return fd
        os.close(fd)  # its last owner removed it between our two steps
