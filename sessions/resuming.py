"""What a session that is gone on with needs: the time it is, and an end for what its last worker left open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson

from sessions.clock import SessionClock

if TYPE_CHECKING:
    import sqlite3

    from sessions.writing import Statement


def going_on(connection: sqlite3.Connection) -> SessionClock:
    """Session time going on, by what the wall clock said at the last sign of life: it may have been set since the beginning."""
    (origin,) = connection.execute("SELECT value FROM meta WHERE key = 'origin_utc_ns'").fetchone()
    beat = connection.execute("SELECT heartbeat_ns, heartbeat_utc_ns FROM worker WHERE id = 1").fetchone()
    since_beat_ns = time.time_ns() - beat[1] if beat else time.time_ns() - int(orjson.loads(origin))
    return SessionClock.resume(int(orjson.loads(origin)), last_ns(connection), (beat[0] if beat else 0) + since_beat_ns)


def last_ns(connection: sqlite3.Connection) -> int:
    """Latest session time that anything in the file carries."""
    row = connection.execute(
        "SELECT max(coalesce((SELECT max(heartbeat_ns) FROM worker), 0),"
        " coalesce((SELECT max(t_ns) FROM log), 0),"
        " coalesce((SELECT max(t_ns) FROM event), 0),"
        " coalesce((SELECT max(start_ns) FROM trial), 0),"
        " coalesce((SELECT max(start_ns) FROM level), 0),"
        " coalesce((SELECT max(start_ns) FROM phase), 0),"
        " coalesce((SELECT max(end_ns) FROM trial), 0),"
        " coalesce((SELECT max(end_ns) FROM phase), 0),"
        " coalesce((SELECT max(end_ns) FROM request_block), 0),"
        " coalesce((SELECT max((SELECT max(t_ns) FROM sample WHERE source = source.id)) FROM source), 0))"
    ).fetchone()
    return int(row[0])


def end_of_what_was_cut_off(connection: sqlite3.Connection) -> list[Statement]:
    """What ends phases, levels and trials that were running, at the last moment recorded, and refuses what nobody will do."""
    now_ns = last_ns(connection)
    return [
        ("UPDATE phase SET end_ns = ? WHERE end_ns IS NULL", [(now_ns,)]),
        ("UPDATE level SET end_ns = ?, state = 'aborted' WHERE state = 'running'", [(now_ns,)]),
        ("UPDATE trial SET end_ns = ?, state = 'interrupted' WHERE state = 'running'", [(now_ns,)]),
        (
            "UPDATE command SET state = 'refused', reply = ? WHERE state = 'taken'",
            [("the worker had ended",)],
        ),
    ]
