"""Saves what can be read of a damaged session into a new file; the damaged one is never touched."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sessions import rows, schema
from sessions.errors import DamagedData, SessionError
from sessions.opening import open_read_only, open_writer
from sessions.recorder import Recorder
from sessions.requests import RequestTable
from sessions.resuming import origin_utc_ns
from sessions.rollup import RollUp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEYS = {
    "meta": ("key",),
    "worker": ("id",),
    "source": ("id",),
    "sample": ("source", "t_ns"),
    "trial": ("number",),
    "level": ("id",),
    "phase": ("id",),
    "request_block": ("id",),
    "log": ("id",),
    "event": ("id",),
    "command": ("id",),
}
"""Tables in the order in which they are saved, each with its key; spans are computed anew."""

_JSON: dict[str, dict[str, str | None]] = {
    "source": {"columns": None, "info": "{}"},
    "meta": {"value": None},
    "trial": {"params": "{}", "effective": "{}", "launch": "{}", "result": "{}", "failure": "null"},
    "level": {"result": "{}", "notes": "[]"},
    "event": {"data": "{}"},
    "command": {"args": "{}"},
}
"""Columns that hold JSON, and what takes the place of text that is none; None: the row is lost."""

OPTUNA_TABLES = (
    "studies",
    "version_info",
    "study_directions",
    "study_user_attributes",
    "study_system_attributes",
    "trials",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_heartbeats",
    "alembic_version",
)
_PLAIN_TABLE = re.compile(r"\s*CREATE TABLE \"?\w+\"? \([^;]*\)\s*", re.IGNORECASE)
_BATCH = 5000


@dataclass(slots=True)
class Saved:
    """What came of it, by table.

    Attributes:
        kept: Rows in the new file.
        lost: Rows seen and not saved; rows in unreadable pages are not seen.
        emptied: Values that could not be read and are empty now.
        broken: Tables of which a part could not be read at all.
    """

    kept: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    emptied: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def repair(path: Path, into: Path) -> Saved:
    """Save a session into a new file of the newest format, with its spans computed anew and what was cut off ended.

    Raises:
        NotASession: If not even its list of tables can be read.
        SessionExists: If the new path is taken.
    """
    saved = Saved()
    with closing(open_read_only(path)) as old:
        old.text_factory = lambda data: data.decode(errors="replace")
        schema.create(into)
        try:
            with closing(open_writer(into)) as new:
                for table, key in _KEYS.items():
                    _save(old, new, table, key, saved)
                for table in OPTUNA_TABLES:
                    _save_foreign(old, new, table, saved)
                _sum_up(new)
                new.execute("INSERT OR REPLACE INTO meta VALUES ('origin_utc_ns', ?)", (str(origin_utc_ns(new) or 0),))
        except BaseException:
            into.unlink(missing_ok=True)
            raise
    _end(into, path)
    return saved


def _save(old: sqlite3.Connection, new: sqlite3.Connection, table: str, key: tuple[str, ...], saved: Saved) -> None:
    columns = [row[0] for row in new.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    sizes = _sample_sizes(new) if table == "sample" else {}
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - names are ours
    batch: list[tuple[Any, ...]] = []
    for row in _readable(old, table, columns, key, saved):
        whole = _whole(table, dict(zip(columns, row, strict=True)), sizes, saved)
        if whole is None:
            saved.lost[table] = saved.lost.get(table, 0) + 1
            continue
        batch.append(tuple(whole.values()))
        if len(batch) >= _BATCH:
            _insert(new, insert, batch, table, saved)
    _insert(new, insert, batch, table, saved)
    (saved.kept[table],) = new.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - names are ours


def _readable(
    old: sqlite3.Connection, table: str, columns: list[str], key: tuple[str, ...], saved: Saved
) -> Iterator[tuple[Any, ...]]:
    """Rows from the beginning up to the damage, then from the end back to it."""
    names = ", ".join(columns)
    for direction in ("", " DESC"):
        order = ", ".join(name + direction for name in key)
        try:
            yield from old.execute(f"SELECT {names} FROM {table} ORDER BY {order}")  # noqa: S608 - names are ours
        except sqlite3.Error:
            if table not in saved.broken:
                saved.broken.append(table)
        else:
            return


def _whole(table: str, row: dict[str, Any], sizes: dict[int, int], saved: Saved) -> dict[str, Any] | None:
    """A row that can be read again, or None."""
    for column, instead in _JSON.get(table, {}).items():
        if row[column] is None:
            continue
        try:
            rows.json_of(row[column])
        except DamagedData:
            if instead is None:
                return None
            row[column] = instead
            saved.emptied[f"{table}.{column}"] = saved.emptied.get(f"{table}.{column}", 0) + 1
    if table == "sample" and (not isinstance(row["data"], bytes) or sizes.get(row["source"]) != len(row["data"])):
        return None
    if table == "request_block":
        return _whole_block(row)
    times = [value for name, value in row.items() if name.endswith("_ns") and value is not None]
    if not all(isinstance(value, int) for value in times):
        return None
    return row


def _whole_block(row: dict[str, Any]) -> dict[str, Any] | None:
    try:
        table = RequestTable.from_blob(row["data"])
    except (DamagedData, TypeError):
        return None
    if not len(table):
        return None
    row |= {"start_ns": int(table.sent_ns.min()), "end_ns": int(table.end_ns.max()), "requests": len(table)}
    row["tokens"] = int(table.osl_tokens[table.osl_tokens > 0].sum())
    return row


def _sample_sizes(new: sqlite3.Connection) -> dict[int, int]:
    sizes = {}
    for identity, columns, format_ in new.execute("SELECT id, columns, format FROM source"):
        with suppress(DamagedData, TypeError):
            sizes[identity] = rows.safe_struct(format_, len(rows.json_of(columns))).size
    return sizes


def _insert(new: sqlite3.Connection, insert: str, batch: list[tuple[Any, ...]], table: str, saved: Saved) -> None:
    new.execute("BEGIN")
    for row in batch:
        try:
            new.execute(insert, row)
        except sqlite3.Error:
            saved.lost[table] = saved.lost.get(table, 0) + 1
    new.execute("COMMIT")
    batch.clear()


def _save_foreign(old: sqlite3.Connection, new: sqlite3.Connection, table: str, saved: Saved) -> None:
    """Save a table of Optuna's as it is, if it is there and a plain table."""
    told = old.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
    if told is None or not _PLAIN_TABLE.fullmatch(str(told[0])):
        return
    try:
        new.execute(str(told[0]))
    except sqlite3.Error:  # a definition that names what SQLite does not know
        saved.broken.append(table)
        return
    columns = [row[0] for row in new.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - names are ours
    batch = list(_readable(old, table, list(map(schema.quoted, columns)), ("rowid",), saved))
    _insert(new, insert, batch, table, saved)
    (saved.kept[table],) = new.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - names are ours


def _sum_up(new: sqlite3.Connection) -> None:
    for identity, format_ in new.execute("SELECT id, format FROM source").fetchall():
        first_ns, last_ns = new.execute(
            "SELECT min(t_ns), max(t_ns) FROM sample WHERE source = ?", (identity,)
        ).fetchone()
        if first_ns is not None:
            new.execute("BEGIN")
            RollUp(new, identity, format_).advance((first_ns, last_ns))
            new.execute("COMMIT")


def _end(into: Path, path: Path) -> None:
    recorder = Recorder.resume(into)
    with suppress(SessionError):
        recorder.set_meta({"repaired_from": path.name})
    recorder.close()
