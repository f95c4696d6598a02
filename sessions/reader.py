"""Reads a session: the one way in which screen, report, comparison and export see it.

Opens read-only, whether the file still grows or was finished long ago. Times are session time in ns. Lists that can
be asked `at_ns` show the session as it was at that moment, which is all a replay needs.
"""

from __future__ import annotations

import sqlite3
import struct
from typing import TYPE_CHECKING, Any

import orjson

from sessions import schema
from sessions.errors import DamagedData
from sessions.records import (
    RUNNING,
    Command,
    Event,
    FailureRecord,
    LevelRecord,
    LogLine,
    Phase,
    Sample,
    Source,
    Trial,
    WorkerStatus,
)
from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sessions.records import Metrics, Params
    from sessions.requests import RequestTable

_FOREVER = (1 << 63) - 1


class SessionReader:
    """A read-only view of one session file.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            NotASession: If it is missing or something else.
            NewerSession: If a newer trtune wrote it.
        """
        self.path = path
        self._connection = schema.open_read_only(path)
        self._version = -1
        self._unpackers: dict[int, struct.Struct] = {}

    def __enter__(self) -> SessionReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def changed(self) -> bool:
        """Whether anything was written since the last call (True the first time). Costs microseconds."""
        version = int(self._one("PRAGMA data_version")[0])
        changed = version != self._version
        self._version = version
        return changed

    def meta(self) -> dict[str, Any]:
        """Facts about the session by key: versions, plan, workload, objective, host."""
        return {key: _json(value) for key, value in self._rows("SELECT key, value FROM meta")}

    def origin_utc_ns(self) -> int:
        """UTC time of session time 0, in ns since the epoch; 0 when the file does not say."""
        value = self.meta().get("origin_utc_ns", 0)
        return value if isinstance(value, int) else 0

    def end_ns(self) -> int:
        """The latest moment anything was recorded."""
        queries = (
            "SELECT max(heartbeat_ns) FROM worker",
            "SELECT max(end_ns) FROM trial",
            "SELECT max(start_ns) FROM phase",
            "SELECT max(t_ns) FROM event",
            "SELECT max(t_ns) FROM log",
        )
        latest = [self._one(query)[0] or 0 for query in queries]
        latest += [
            self._one("SELECT max(t_ns) FROM sample WHERE source = ?", (source.id,))[0] or 0
            for source in self.sources()
        ]
        return int(max(latest))

    def worker(self) -> WorkerStatus | None:
        """Who writes, and when it last gave a sign of life."""
        rows = self._rows(
            "SELECT pid, host, state, text, started_ns, heartbeat_ns, heartbeat_utc_ns FROM worker WHERE id = 1"
        )
        for pid, host, state, text, started_ns, heartbeat_ns, heartbeat_utc_ns in rows:
            return WorkerStatus(pid, _word(host), _word(state), _word(text), started_ns, heartbeat_ns, heartbeat_utc_ns)
        return None

    def sources(self, kind: str | None = None) -> tuple[Source, ...]:
        """Sources of samples, all or those of one kind (`gpu`, `engine`, `load`)."""
        rows = self._rows(
            "SELECT id, kind, name, columns, info, format FROM source WHERE ?1 IS NULL OR kind = ?1 ORDER BY id",
            (kind,),
        )
        sources = []
        for identity, kind_, name, columns, info, format_ in rows:
            names = _json(columns)
            self._unpackers[identity] = _safe_struct(format_, len(names))
            texts = {key: clean_line(value) if isinstance(value, str) else value for key, value in _json(info).items()}
            sources.append(Source(identity, kind_, clean_line(name), tuple(str(name) for name in names), texts))
        return tuple(sources)

    def samples(self, source: int, start_ns: int, end_ns: int, *, limit: int = 100_000) -> list[Sample]:
        """Samples of a source with `start_ns <= t < end_ns`, oldest first, at most `limit` (the newest)."""
        rows = self._rows(
            "SELECT t_ns, data FROM sample WHERE source = ? AND t_ns >= ? AND t_ns < ? ORDER BY t_ns DESC LIMIT ?",
            (source, start_ns, end_ns, limit),
        )
        return [self._sample(source, t_ns, data) for t_ns, data in reversed(list(rows))]

    def last_sample(self, source: int, at_ns: int = _FOREVER) -> Sample | None:
        """The newest sample of a source at or before a moment."""
        rows = self._rows(
            "SELECT t_ns, data FROM sample WHERE source = ? AND t_ns <= ? ORDER BY t_ns DESC LIMIT 1", (source, at_ns)
        )
        for t_ns, data in rows:
            return self._sample(source, t_ns, data)
        return None

    def trials(self, at_ns: int = _FOREVER) -> tuple[Trial, ...]:
        """Trials begun by a moment, as they stood then: one that ended later is still running, without a result."""
        rows = self._rows(
            "SELECT number, kind, state, params, start_ns, end_ns, effective, launch, ready_s, score, feasible, result,"
            " failure FROM trial WHERE start_ns <= ? ORDER BY number",
            (at_ns,),
        )
        return tuple(_trial(row, at_ns) for row in rows)

    def levels(self, trial: int | None = None, at_ns: int = _FOREVER) -> tuple[LevelRecord, ...]:
        """Levels begun by a moment, of one trial or of all, as they stood then."""
        rows = self._rows(
            "SELECT id, trial, kind, value, state, start_ns, end_ns, window_start_ns, window_end_ns, result, notes"
            " FROM level WHERE (?1 IS NULL OR trial = ?1) AND start_ns <= ?2 ORDER BY id",
            (trial, at_ns),
        )
        return tuple(_level(row, at_ns) for row in rows)

    def phases(self, trial: int | None = None, at_ns: int = _FOREVER) -> tuple[Phase, ...]:
        """Phases begun by a moment, oldest first; one that ended later is still open."""
        rows = self._rows(
            "SELECT trial, level, name, start_ns, end_ns FROM phase"
            " WHERE (?1 IS NULL OR trial = ?1) AND start_ns <= ?2 ORDER BY id",
            (trial, at_ns),
        )
        return tuple(
            Phase(number, level, name, start_ns, end_ns if end_ns is not None and end_ns <= at_ns else None)
            for number, level, name, start_ns, end_ns in rows
        )

    def events(self, start_ns: int = 0, end_ns: int = _FOREVER) -> tuple[Event, ...]:
        """Marks with `start_ns <= t <= end_ns`, oldest first."""
        rows = self._rows(
            "SELECT id, t_ns, kind, trial, text, data FROM event WHERE t_ns >= ? AND t_ns <= ? ORDER BY id",
            (start_ns, end_ns),
        )
        return tuple(
            Event(
                row[0],
                row[1],
                _word(row[2]),
                row[3],
                _word(row[4]),
                _table(row[5], (bool, int, float, str, dict, list)),
            )
            for row in rows
        )

    def logs(self, at_ns: int = _FOREVER, *, after_id: int = 0, limit: int = 1000) -> tuple[LogLine, ...]:
        """The newest log lines up to a moment with an id above `after_id`, oldest first, at most `limit`."""
        rows = list(
            self._rows(
                "SELECT id, t_ns, stream, level, text FROM log WHERE id > ? AND t_ns <= ? ORDER BY id DESC LIMIT ?",
                (after_id, at_ns, limit),
            )
        )
        return tuple(LogLine(row[0], row[1], _word(row[2]), _word(row[3]), _word(row[4])) for row in reversed(rows))

    def commands(self) -> tuple[Command, ...]:
        """Everything operators asked, oldest first."""
        rows = self._rows("SELECT id, utc_ns, kind, args, state, reply FROM command ORDER BY id")
        return tuple(
            Command(
                row[0],
                row[1],
                _word(row[2]),
                _table(row[3], (bool, int, float, str, dict)),
                _word(row[4]),
                _word(row[5]),
            )
            for row in rows
        )

    def requests(self, level: int) -> RequestTable:
        """All requests of a level, with their token arrivals.

        Raises:
            DamagedData: If a stored block cannot be read.
        """
        from sessions.requests import RequestTable  # numpy stays out of the screen's start

        rows = self._rows("SELECT data FROM request_block WHERE level = ? ORDER BY id", (level,))
        return RequestTable.concat([RequestTable.from_blob(data) for (data,) in rows])

    def _sample(self, source: int, t_ns: int, data: bytes) -> Sample:
        if source not in self._unpackers:
            self.sources()
        unpacker = self._unpackers.get(source)
        if unpacker is None or unpacker.size != len(data):
            raise DamagedData(f"{self.path}: a sample of source {source} has the wrong size")
        return Sample(t_ns, unpacker.unpack(data))

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._connection.execute(query, parameters)
        except sqlite3.DatabaseError as error:
            raise DamagedData(f"{self.path}: {error}") from error

    def _one(self, query: str, parameters: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        return next(self._rows(query, parameters))


def _number(value: Any) -> float | None:
    """A stored number, or None for anything else: a stranger's file may hold anything anywhere."""
    return float(value) if isinstance(value, int | float) else None


def _word(value: Any) -> str:
    return clean_line(str(value))


def _table(text: Any, kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """A stored JSON object, without values of other kinds."""
    told = _json(text)
    if not isinstance(told, dict):
        return {}
    return {_word(key): value for key, value in told.items() if value is None or isinstance(value, kinds)}


def _params(text: Any) -> Params:
    told = _table(text, (bool, int, float, str))
    return {name: clean_line(value) if isinstance(value, str) else value for name, value in told.items()}


def _metrics(text: Any) -> Metrics:
    return {
        name: {_word(stat): float(value) for stat, value in stats.items() if isinstance(value, int | float)}
        for name, stats in _table(text, dict).items()
        if stats is not None
    }


def _trial(row: tuple[Any, ...], at_ns: int) -> Trial:
    number, kind, state, params, start_ns, end_ns, effective, launch, ready_s, score, feasible, result, failure = row
    over = end_ns is not None and end_ns <= at_ns
    told = _json(failure) if over and failure else None
    return Trial(
        number=number,
        kind=_word(kind),
        state=_word(state) if over else RUNNING,
        params=_params(params),
        start_ns=start_ns,
        end_ns=end_ns if over else None,
        effective=_params(effective),
        launch=_table(launch, (str, list, dict)),
        ready_s=_number(ready_s),
        score=_number(score) if over else None,
        feasible=None if feasible is None or not over else bool(feasible),
        result=_metrics(result) if over else {},
        failure=_failure(told) if isinstance(told, dict) else None,
    )


def _failure(told: dict[str, Any]) -> FailureRecord:
    return FailureRecord(
        kind=clean_line(str(told.get("kind", ""))),
        text=clean_line(str(told.get("text", ""))),
        line=clean_line(str(told.get("line", ""))),
        accuses=tuple(str(name) for name in told.get("accuses", ())),
    )


def _level(row: tuple[Any, ...], at_ns: int) -> LevelRecord:
    identity, trial, kind, value, state, start_ns, end_ns, window_start_ns, window_end_ns, result, notes = row
    over = end_ns is not None and end_ns <= at_ns
    window = None if window_start_ns is None or window_end_ns is None else (window_start_ns, window_end_ns)
    return LevelRecord(
        id=identity,
        trial=trial,
        kind=_word(kind),
        value=_number(value) or 0.0,
        state=_word(state) if over else RUNNING,
        start_ns=start_ns,
        end_ns=end_ns if over else None,
        window_ns=window if over else None,
        result=_metrics(result) if over else {},
        notes=_notes(notes) if over else (),
    )


def _notes(text: Any) -> tuple[str, ...]:
    told = _json(text)
    return tuple(_word(note) for note in told) if isinstance(told, list) else ()


def _json(text: Any) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise DamagedData(f"the session holds text that is not JSON: {error}") from error


def _safe_struct(format_: str, columns: int) -> struct.Struct:
    """The struct of a stored format; anything but `<` and as many `f` and `d` as there are columns is refused."""
    if format_[:1] != "<" or set(format_[1:]) - {"f", "d"} or len(format_) - 1 != columns:
        raise DamagedData(f"the session describes its samples by {format_!r}, which is no format of ours")
    return struct.Struct(format_)
