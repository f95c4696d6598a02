"""The tables of a session file, making an empty one, and bringing an older one up to date.

One SQLite file. It carries an application id and a schema version; Optuna's own tables live beside ours.
`sessions.opening` opens it.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

from sessions.errors import SessionExists

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

APPLICATION_ID = 0x54525455
"""`TRTU`, stored in the file's header."""

SCHEMA_VERSION = 2

ROLLUP_TABLE = """\
CREATE TABLE rollup (                       -- samples in short, derived from `sample` (sessions/rollup.py)
    source INTEGER NOT NULL REFERENCES source (id),
    width_s INTEGER NOT NULL,               -- length of the span: 16 or 256
    place INTEGER NOT NULL,                 -- which span: its start / its length
    data BLOB NOT NULL,
    PRIMARY KEY (source, width_s, place)
) WITHOUT ROWID;
"""

TABLES = f"""
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

{ROLLUP_TABLE}
CREATE TABLE trial (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                     -- baseline, search, enqueued, proof, reference, bench
    state TEXT NOT NULL,                    -- running, complete, pruned, infeasible, failed, skipped, interrupted
    params TEXT NOT NULL,                   -- JSON: what was asked for
    effective TEXT NOT NULL DEFAULT '{{}}',   -- JSON: what was read back from the server
    launch TEXT NOT NULL DEFAULT '{{}}',      -- JSON: command line, configuration files
    start_ns INTEGER NOT NULL,
    end_ns INTEGER,
    ready_s REAL,                           -- seconds from start to ready
    score REAL,                             -- value of the objective; null: none
    feasible INTEGER,                       -- whether every SLO was met
    result TEXT NOT NULL DEFAULT '{{}}',      -- JSON: metrics of the scoring level
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
    result TEXT NOT NULL DEFAULT '{{}}',      -- JSON: metrics
    notes TEXT NOT NULL DEFAULT '[]'        -- JSON: why invalid, what stopped it, clock, precision
);

CREATE TABLE phase (
    id INTEGER PRIMARY KEY,
    trial INTEGER NOT NULL REFERENCES trial (number),
    level INTEGER REFERENCES level (id),
    name TEXT NOT NULL,                     -- one of sessions.records.PHASES
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
    stream TEXT NOT NULL,                   -- server, worker, build, pre-check
    level TEXT NOT NULL,                    -- debug, info, warning, error
    text TEXT NOT NULL
);
CREATE INDEX log_time ON log (t_ns);

CREATE TABLE event (                        -- marks on the time axis
    id INTEGER PRIMARY KEY,
    t_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,                     -- best, mark, command, warning, drift, verdict, neighbours, placed
    trial INTEGER,
    text TEXT NOT NULL,
    data TEXT NOT NULL DEFAULT '{{}}'         -- JSON
);
CREATE INDEX event_time ON event (t_ns);

CREATE TABLE command (                      -- what an operator asks of the worker
    id INTEGER PRIMARY KEY,
    utc_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,                     -- one of sessions.records.COMMAND_KINDS
    args TEXT NOT NULL DEFAULT '{{}}',        -- JSON
    state TEXT NOT NULL DEFAULT 'asked',    -- asked, taken, done, refused
    reply TEXT NOT NULL DEFAULT ''
);
"""

MIGRATIONS = {2: ROLLUP_TABLE}
"""What brings a session of the format before to a format."""

_TABLE_NAME = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)


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
        publish(draft, path)
    except sqlite3.OperationalError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def quoted(name: str) -> str:
    """A name of a column as SQL takes it: those of Optuna's tables are as the file's maker wrote them."""
    return '"' + name.replace('"', '""') + '"'


def publish(draft: Path, path: Path) -> None:
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


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an older session up to date, all or nothing. Its worker does that: a file that is only shown stays as it is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    missing = [statement for number, statement in sorted(MIGRATIONS.items()) if number > version]
    if missing:
        changes = "".join(missing)
        connection.executescript(f"BEGIN IMMEDIATE; {changes} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


@cache
def tables(version: int = SCHEMA_VERSION) -> Mapping[str, frozenset[str]]:
    """The tables of a format in the order in which they are made, each with the names of its columns."""
    later = _TABLE_NAME.findall("".join(statement for number, statement in MIGRATIONS.items() if number > version))
    names = [name for name in _TABLE_NAME.findall(TABLES) if name not in later]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES)
        query = "SELECT name FROM pragma_table_info(?)"
        return {name: frozenset(row[0] for row in connection.execute(query, (name,))) for name in names}
