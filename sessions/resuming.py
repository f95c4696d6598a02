"""What a session that is gone on with needs: the time it is, and an end for what its last worker left open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sessions import rows
from sessions.clock import SessionClock
from sessions.errors import DamagedData

if TYPE_CHECKING:
    import sqlite3

    from sessions.writing import Statement

_TOO_LATE: Final = "the worker had ended"
_OF_THE_MOMENT: Final = ("pause", "resume", "skip", "stop", "profile")
"""Commands that mean what runs when they are asked: meant for a worker that was gone by then, they are not for the next one."""


def going_on(connection: sqlite3.Connection) -> SessionClock:
    """Session time going on, by what the wall clock said at the last sign of life: it may have been set since the beginning.

    Raises:
        DamagedData: If the session does not say when it began.
    """
    origin_ns = origin_utc_ns(connection)
    if origin_ns is None:
        raise DamagedData("the session does not say when it began: save it with trtune sessions repair, then go on")
    beat_ns, beat_utc_ns = _beat(connection) or (0, origin_ns)
    return SessionClock.resume(origin_ns, last_ns(connection), beat_ns + time.time_ns() - beat_utc_ns)


def origin_utc_ns(connection: sqlite3.Connection) -> int | None:
    """UTC time of session time 0, by what the session says or by its last sign of life; None when neither tells.

    Raises:
        DamagedData: If what it says is no JSON, or its last sign of life has no time.
    """
    told = connection.execute("SELECT value FROM meta WHERE key = 'origin_utc_ns'").fetchone()
    origin = None if told is None else rows.json_of(told[0])
    if isinstance(origin, int) and not isinstance(origin, bool):
        return rows.integer(origin)
    beat = _beat(connection)
    return None if beat is None else beat[1] - beat[0]


def _beat(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """Session time and UTC time of the last sign of life."""
    beat = connection.execute("SELECT heartbeat_ns, heartbeat_utc_ns FROM worker WHERE id = 1").fetchone()
    return None if beat is None else (rows.integer(beat[0]), rows.integer(beat[1]))


def last_ns(connection: sqlite3.Connection) -> int:
    """Latest session time that anything in the file carries.

    Raises:
        DamagedData: If there is something else in the place of a time.
    """
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
    return rows.integer(row[0])


def end_of_what_was_cut_off(connection: sqlite3.Connection) -> list[Statement]:
    """What ends phases, levels and trials that were running, at the last moment recorded, and refuses what nobody will do."""
    now_ns = last_ns(connection)
    return [
        ("UPDATE phase SET end_ns = ? WHERE end_ns IS NULL", [(now_ns,)]),
        ("UPDATE level SET end_ns = ?, state = 'aborted' WHERE state = 'running'", [(now_ns,)]),
        ("UPDATE trial SET end_ns = ?, state = 'interrupted' WHERE state = 'running'", [(now_ns,)]),
        ("UPDATE command SET state = 'refused', reply = ? WHERE state = 'taken'", [(_TOO_LATE,)]),
        (
            "UPDATE command SET state = 'refused', reply = ? WHERE state = 'asked' AND kind = ? AND EXISTS (SELECT * FROM worker)",
            [(_TOO_LATE, kind) for kind in _OF_THE_MOMENT],
        ),
    ]
