"""Opens a session file safely: one from a stranger can do nothing but be shown.

A file is read without following anything it names: no view, trigger or virtual table is accepted, the schema is not
trusted to call functions, nothing is mapped into memory, and sizes are bounded by SQLite's own limits.

Writing uses `synchronous = NORMAL` in WAL mode: a commit is in the kernel's hands when it returns, so a killed process loses
nothing that was committed; the file is synced at checkpoints only, so a power cut can take the newest commits but never
the file's consistency. `FULL` would sync at every commit, several times a second, on the disk the server may need, and would
save seconds of samples in an event in which the measurement is over anyway.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sessions import schema
from sessions.errors import NewerSession, NotASession
from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Sequence

BUSY_TIMEOUT_S = 10.0

MAX_VALUE_BYTES = 64 << 20
"""Longest text or blob read or written."""

MAX_SCHEMA_ENTRIES = 200
CACHE_KIB = 16 << 10

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_PRAGMAS = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
    "temp_store = MEMORY",
    f"cache_size = -{CACHE_KIB}",
)
_DEFENCES = {
    "SQLITE_DBCONFIG_DEFENSIVE": True,
    "SQLITE_DBCONFIG_ENABLE_TRIGGER": False,
    "SQLITE_DBCONFIG_ENABLE_VIEW": False,
    "SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION": False,
    "SQLITE_DBCONFIG_DQS_DDL": False,
    "SQLITE_DBCONFIG_DQS_DML": False,
}
"""Settings that Python can reach from 3.12 on; before, the checks below stand alone."""


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a session for reading, whether it is still growing, finished, or on a read-only disk.

    Raises:
        NotASession: If the file is missing or something else.
        NewerSession: If a newer trtune wrote it.
    """
    if not path.is_file():
        raise NotASession(f"{path}: no such session file")
    try:
        return _checked(f"{path.resolve().as_uri()}?mode=ro", path)
    except NotASession as error:
        if not _wants_to_write(error.__cause__):
            raise
    # On a read-only disk SQLite cannot make the index of a WAL, and what a killed process left half-written can only be put
    # right by writing: that is done to a copy. A file with nothing beside it is read as it is.
    beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    if not any(each.is_file() and each.stat().st_size for each in beside):
        return _checked(f"{path.resolve().as_uri()}?mode=ro&immutable=1", path)
    return _open_copy(path, beside)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open a session for writing (the worker, or a viewer that appends a command).

    Raises:
        NotASession: If the file is missing, something else, or cannot be opened for writing.
        NewerSession: If a newer trtune wrote it.
    """
    if not path.is_file():
        raise NotASession(f"{path}: no such session file")
    connection = _checked(f"{path.resolve().as_uri()}?mode=rw", path, read_only=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error as error:
        connection.close()
        raise NotASession(f"{path} cannot be opened for writing ({error})") from error
    return connection


def _checked(uri: str, path: Path, *, read_only: bool = True) -> sqlite3.Connection:
    """Open defensively, and make sure that it is a session.

    Raises:
        NotASession: If it is another kind of file, or cannot be read.
        NewerSession: If a newer trtune wrote it.
    """
    try:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise NotASession(f"{path} cannot be opened ({error})") from error
    try:
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        for name, wanted in _DEFENCES.items():
            if hasattr(connection, "setconfig") and hasattr(sqlite3, name):
                connection.setconfig(getattr(sqlite3, name), wanted)
        for pragma in (*_PRAGMAS, *(("query_only = ON",) if read_only else ())):
            connection.execute(f"PRAGMA {pragma}")
        _check(connection, path)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        raise NotASession(f"{path} is not a trtune session ({_line(error)})") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != schema.APPLICATION_ID:
        raise NotASession(f"{path} is not a trtune session")
    if version > schema.SCHEMA_VERSION:
        raise NewerSession(
            f"{path} has session format {version}, this trtune reads up to {schema.SCHEMA_VERSION}: update trtune"
        )
    if version < 1:
        raise NotASession(f"{path} is not a trtune session (format {version} never was)")
    _check_shape(connection, path, version)


def _check_shape(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Refuse a file whose tables are not plain tables with our columns."""
    entries = connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_master LIMIT ?", (MAX_SCHEMA_ENTRIES + 1,)
    ).fetchall()
    if len(entries) > MAX_SCHEMA_ENTRIES:
        raise NotASession(f"{path} is not a trtune session: it has more than {MAX_SCHEMA_ENTRIES} tables and indexes")
    for kind, name, sql in entries:
        if kind not in ("table", "index") or str(sql).lstrip().upper().startswith("CREATE VIRTUAL"):
            raise NotASession(
                f"{path} is not made as a session is: it holds a {kind} called {str(name)[:60]!r}; refused"
            )
    for table, columns in schema.tables(version).items():
        found = connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (table,)).fetchall()
        if not columns <= {name for name, _ in found} or any(hidden for _, hidden in found):
            raise NotASession(f"{path} is not made as a session is: its table {table!r} lacks columns; refused")


def _line(error: Exception) -> str:
    """The first line of what SQLite says, which may quote the file."""
    return clean_line(str(error).partition("\n")[0])[:200]


def _wants_to_write(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def _open_copy(path: Path, beside: Sequence[Path]) -> sqlite3.Connection:
    """Read a copy, in which SQLite may put things right, that vanishes with the reader."""
    with tempfile.TemporaryDirectory(prefix="trtune-") as folder:
        copy = Path(folder) / "session.trtune"
        try:
            shutil.copyfile(path, copy)
            for each in beside:
                if each.is_file():
                    shutil.copyfile(each, copy.with_name(each.name.replace(path.name, copy.name)))
        except OSError as error:
            raise NotASession(f"{path} cannot be read without writing beside it, nor be copied: {error}") from error
        with closing(_checked(f"{copy.as_uri()}?mode=rw", path, read_only=False)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return _checked(f"{copy.as_uri()}?mode=ro&immutable=1", path)
