"""The tables of a session file, and opening one safely.

One SQLite file. It carries an application id and a schema version; Optuna's own tables live beside ours. While it
grows it is in WAL mode, so that readers never block the writer; `synchronous=NORMAL` keeps every commit across a killed
process, and across a power cut all but the last moments.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from sessions.errors import NewerSession, NotASession, SessionExists

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID = 0x54525455
"""`TRTU`, stored in the file's header."""

SCHEMA_VERSION = 1

BUSY_TIMEOUT_S = 10.0

TABLES = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL                     -- JSON
) WITHOUT ROWID;

CREATE TABLE worker (                       -- who writes, and when it was last alive
    id INTEGER PRIMARY KEY CHECK (id = 1),
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    state TEXT NOT NULL,                    -- starting, running, paused, stopping, done, failed
    text TEXT NOT NULL,                     -- what it is doing, in words
    started_ns INTEGER NOT NULL,
    heartbeat_ns INTEGER NOT NULL,
    heartbeat_utc_ns INTEGER NOT NULL
);

CREATE TABLE source (                       -- one GPU, the engine, the load
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                     -- gpu, engine, load
    name TEXT NOT NULL,
    format TEXT NOT NULL,                   -- struct format of its samples
    columns TEXT NOT NULL,                  -- JSON list of names
    info TEXT NOT NULL,                     -- JSON object
    UNIQUE (kind, name)
);

CREATE TABLE sample (
    source INTEGER NOT NULL REFERENCES source (id),
    t_ns INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (source, t_ns)
) WITHOUT ROWID;

CREATE TABLE trial (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                     -- baseline, search, enqueued, proof, bench, watch
    state TEXT NOT NULL,                    -- running, complete, pruned, infeasible, failed, skipped, interrupted
    params TEXT NOT NULL,                   -- JSON: what was asked for
    effective TEXT NOT NULL DEFAULT '{}',   -- JSON: what was read back from the server
    launch TEXT NOT NULL DEFAULT '{}',      -- JSON: command line, configuration files
    start_ns INTEGER NOT NULL,
    end_ns INTEGER,
    ready_s REAL,                           -- seconds from start to ready
    score REAL,                             -- value of the objective; null: none
    feasible INTEGER,                       -- whether every SLO was met
    result TEXT NOT NULL DEFAULT '{}',      -- JSON: metrics of the scoring level
    failure TEXT                            -- JSON: kind, text, line, accuses
);

CREATE TABLE level (
    id INTEGER PRIMARY KEY,
    trial INTEGER NOT NULL REFERENCES trial (number),
    kind TEXT NOT NULL,                     -- concurrency, rate
    value REAL NOT NULL,
    state TEXT NOT NULL,                    -- running, valid, invalid, aborted
    start_ns INTEGER NOT NULL,
    end_ns INTEGER,
    window_start_ns INTEGER,
    window_end_ns INTEGER,
    result TEXT NOT NULL DEFAULT '{}',      -- JSON: metrics
    notes TEXT NOT NULL DEFAULT '[]'        -- JSON: why invalid, what stopped it, clock, precision
);

CREATE TABLE phase (
    id INTEGER PRIMARY KEY,
    trial INTEGER NOT NULL REFERENCES trial (number),
    level INTEGER REFERENCES level (id),
    name TEXT NOT NULL,                     -- prepare, start, warm-up, measure, drain, stop
    start_ns INTEGER NOT NULL,
    end_ns INTEGER
);

CREATE TABLE request_block (
    id INTEGER PRIMARY KEY,
    level INTEGER NOT NULL REFERENCES level (id),
    start_ns INTEGER NOT NULL,              -- first send
    end_ns INTEGER NOT NULL,                -- last end
    requests INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX request_block_time ON request_block (level, start_ns);

CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    t_ns INTEGER NOT NULL,
    stream TEXT NOT NULL,                   -- server, worker, load
    level TEXT NOT NULL,                    -- debug, info, warning, error
    text TEXT NOT NULL
);
CREATE INDEX log_time ON log (t_ns);

CREATE TABLE event (                        -- marks on the time axis
    id INTEGER PRIMARY KEY,
    t_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,                     -- best, mark, command, warning, drift
    trial INTEGER,
    text TEXT NOT NULL,
    data TEXT NOT NULL DEFAULT '{}'         -- JSON
);
CREATE INDEX event_time ON event (t_ns);

CREATE TABLE command (                      -- what an operator asks of the worker
    id INTEGER PRIMARY KEY,
    utc_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,                     -- pause, resume, skip, stop, enqueue, mark
    args TEXT NOT NULL DEFAULT '{}',        -- JSON
    state TEXT NOT NULL DEFAULT 'asked',    -- asked, taken, done, refused
    reply TEXT NOT NULL DEFAULT ''
);
"""


def create(path: Path) -> None:
    """Write an empty session file; it appears whole or not at all.

    Raises:
        SessionExists: If the path is taken.
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        finally:
            connection.close()
        _publish(draft, path)
    except sqlite3.OperationalError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, never in the place of another."""
    taken = SessionExists(f"{path} exists already: choose another path, or continue it with --resume")
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise taken from None
    except OSError:
        # No hard links here (some network and removable disks): almost as good.
        if path.exists():
            raise taken from None
        draft.rename(path)


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Make sure that the open file is a session this version can read.

    Raises:
        NotASession: If it is another kind of file.
        NewerSession: If a newer trtune wrote it.
    """
    try:
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise NotASession(f"{path} is not a trtune session ({error})") from error
    if application_id != APPLICATION_ID:
        raise NotASession(f"{path} is not a trtune session")
    if version > SCHEMA_VERSION:
        raise NewerSession(
            f"{path} has session format {version}, this trtune reads up to {SCHEMA_VERSION}: update trtune"
        )


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a session for reading, whether it is still growing, finished, or on a read-only disk.

    Raises:
        NotASession: If the file is missing or something else.
        NewerSession: If a newer trtune wrote it.
    """
    if not path.is_file():
        raise NotASession(f"{path}: no such session file")
    quoted = path.resolve().as_uri()
    try:
        return _checked(f"{quoted}?mode=ro", path)
    except NotASession:
        # On a read-only disk SQLite cannot make the index of a WAL: read what the main file holds.
        if os.access(path.parent, os.W_OK):
            raise
        return _checked(f"{quoted}?mode=ro&immutable=1", path)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open a session for writing (the worker, or a viewer that appends a command).

    Raises:
        NotASession: If the file is missing or something else.
        NewerSession: If a newer trtune wrote it.
    """
    if not path.is_file():
        raise NotASession(f"{path}: no such session file")
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _checked(uri: str, path: Path) -> sqlite3.Connection:
    """Open for reading, and make sure that it is a session.

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
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        check(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise NotASession(f"{path} is not a trtune session ({error})") from error
    except BaseException:
        connection.close()
        raise
    return connection
