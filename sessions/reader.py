"""Reads a session: the one way in which screen, report, comparison and export see it.

Opens read-only, whether the file still grows or was finished long ago. Times are session time in ns. Lists that can
be asked `at_ns` show the session as it was at that moment, which is all a replay needs.
"""

from __future__ import annotations

import math
import sqlite3
import struct
import time
from typing import TYPE_CHECKING, Any

from sessions import rows
from sessions.clock import NS_PER_S
from sessions.errors import DamagedData
from sessions.opening import open_read_only
from sessions.records import LogLine, Sample, WorkerStatus
from sessions.rollup import WIDTHS_S, group_samples, group_spans, span_struct, unpack_span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from sessions.records import Command, Event, LevelRecord, Phase, Source, Trial
    from sessions.requests import RequestTable
    from sessions.rollup import Span

MAX_ROWS = 2_000_000
"""Longest list of trials, levels, phases, events or commands that is read: no session of ours comes near."""

MAX_LIST_BYTES = 512 << 20
"""Longest such list in bytes of text."""

MAX_LEVEL_BYTES = 4 << 30
"""Largest decoded size of the requests of one level."""

STEP_LIMIT_S = 20.0
"""Longest time a query may take to its next rows: ours take milliseconds."""

_ROWS_A_STEP = 64

_STEPS_BETWEEN_LOOKS = 100_000
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
        self._connection = open_read_only(path)
        self._version = -1
        self._formats: dict[int, struct.Struct] = {}
        self._deadline_s = math.inf
        self._connection.set_progress_handler(lambda: time.monotonic() > self._deadline_s, _STEPS_BETWEEN_LOOKS)
        self._has_spans = bool(self._one("SELECT count(*) FROM sqlite_master WHERE name = 'rollup'")[0])

    @property
    def has_spans(self) -> bool:
        """Whether `spans` reads what was summed up while recording; else it sums up every sample when asked."""
        return self._has_spans

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
        return {rows.word(key): rows.json_of(value) for key, value in self._list("SELECT key, value FROM meta")}

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
        latest = [self._one(query)[0] for query in queries]
        latest += [
            self._one("SELECT max(t_ns) FROM sample WHERE source = ?", (source.id,))[0] for source in self.sources()
        ]
        return max(rows.optional_integer(t_ns) or 0 for t_ns in latest)

    def worker(self) -> WorkerStatus | None:
        """Who writes, and when it last gave a sign of life."""
        found = self._rows(
            "SELECT pid, host, state, text, started_ns, heartbeat_ns, heartbeat_utc_ns FROM worker WHERE id = 1"
        )
        for pid, host, state, text, *times_ns in found:
            texts = (rows.word(host), rows.word(state), rows.word(text))
            return WorkerStatus(rows.integer(pid), *texts, *(rows.integer(t_ns) for t_ns in times_ns))
        return None

    def sources(self, kind: str | None = None) -> tuple[Source, ...]:
        """Sources of samples, all or those of one kind (`gpu`, `engine`, `load`)."""
        found = self._list(
            "SELECT id, kind, name, columns, info, format FROM source WHERE ?1 IS NULL OR kind = ?1 ORDER BY id",
            (kind,),
        )
        sources: list[Source] = []
        for *row, format_ in found:
            source = rows.source_of(tuple(row))
            self._formats[source.id] = rows.safe_struct(format_, len(source.columns))
            sources.append(source)
        return tuple(sources)

    def samples(self, source: int, start_ns: int, end_ns: int, *, limit: int = 100_000) -> list[Sample]:
        """Samples of a source with `start_ns <= t < end_ns`, oldest first, at most `limit` (the newest)."""
        unpack = self._format(source).unpack
        found = self._rows(
            "SELECT t_ns, data FROM sample WHERE source = ? AND t_ns >= ? AND t_ns < ? ORDER BY t_ns DESC LIMIT ?",
            (source, start_ns, end_ns, limit),
        )
        try:
            newest_first = [Sample(t_ns, unpack(data)) for t_ns, data in found]
        except (struct.error, TypeError) as error:
            raise DamagedData(f"{self.path}: a sample of source {source} has the wrong size") from error
        newest_first.reverse()
        return newest_first

    def packed_samples(self, source: int, start_ns: int, end_ns: int) -> tuple[str, NDArray[np.int64], bytes]:
        """Samples with `start_ns <= t < end_ns` for whoever reads many: their format, times, and values one after the other."""
        import numpy as np

        packed = self._format(source)
        times_ns: list[int] = []
        data: list[bytes] = []
        found = self._rows(
            "SELECT t_ns, data FROM sample WHERE source = ? AND t_ns >= ? AND t_ns < ? ORDER BY t_ns",
            (source, start_ns, end_ns),
        )
        for t_ns, values in found:
            if not isinstance(values, bytes) or len(values) != packed.size:
                raise DamagedData(f"{self.path}: a sample of source {source} has the wrong size")
            times_ns.append(rows.integer(t_ns))
            data.append(values)
        return packed.format, np.array(times_ns, np.int64), b"".join(data)

    def spans(self, source: int, start_ns: int, end_ns: int, *, width_s: int = WIDTHS_S[0]) -> list[Span]:
        """Samples in short: each span that touches `start_ns <= t < end_ns` and has samples, oldest first.

        What is not recorded in short (the newest spans; sessions of format 1) is summed up now.

        Args:
            source: Identity of the source.
            start_ns: Where to begin.
            end_ns: Where to end.
            width_s: One of `rollup.WIDTHS_S`.
        """
        if width_s not in WIDTHS_S:
            raise ValueError(f"spans are {WIDTHS_S} s wide, not {width_s}")
        width_ns = width_s * NS_PER_S
        spans = self._recorded_spans(source, start_ns // width_ns, -(-end_ns // width_ns), width_s)
        rest_ns = spans[-1].end_ns if spans else start_ns // width_ns * width_ns
        if rest_ns < end_ns:
            spans += self._fresh_spans(source, rest_ns, -(-end_ns // width_ns) * width_ns, width_s)
        return spans

    def _recorded_spans(self, source: int, first: int, last: int, width_s: int) -> list[Span]:
        if not self._has_spans:
            return []
        packer = span_struct(self._format(source).format)
        found = self._rows(
            "SELECT place, data FROM rollup WHERE source = ? AND width_s = ? AND place >= ? AND place < ? ORDER BY place",
            (source, width_s, first, last),
        )
        try:
            return [unpack_span(packer, width_s, rows.integer(place), data) for place, data in found]
        except (struct.error, TypeError) as error:
            raise DamagedData(f"{self.path}: a span of source {source} has the wrong size") from error

    def _fresh_spans(self, source: int, start_ns: int, end_ns: int, width_s: int) -> list[Span]:
        finer = WIDTHS_S.index(width_s) - 1
        if finer >= 0:
            return group_spans(width_s, self.spans(source, start_ns, end_ns, width_s=WIDTHS_S[finer]))
        unpack = self._format(source).unpack
        found = self._rows(
            "SELECT t_ns, data FROM sample WHERE source = ? AND t_ns >= ? AND t_ns < ? ORDER BY t_ns",
            (source, start_ns, end_ns),
        )
        try:
            return group_samples(width_s, ((t_ns, unpack(data)) for t_ns, data in found))
        except (struct.error, TypeError) as error:
            raise DamagedData(f"{self.path}: a sample of source {source} has the wrong size") from error

    def last_sample(self, source: int, at_ns: int = _FOREVER) -> Sample | None:
        """The newest sample of a source at or before a moment."""
        newest = self.samples(source, -_FOREVER, min(at_ns, _FOREVER - 1) + 1, limit=1)
        return newest[0] if newest else None

    def trials(self, at_ns: int = _FOREVER) -> tuple[Trial, ...]:
        """Trials begun by a moment, as they stood then: one that ended later is still running, without a result."""
        query = (
            "SELECT number, kind, state, params, start_ns, end_ns, effective, launch, ready_s, score, feasible, result,"
            " failure FROM trial WHERE start_ns <= ? ORDER BY number"
        )
        return tuple(rows.trial_of(row, at_ns) for row in self._list(query, (at_ns,)))

    def levels(self, trial: int | None = None, at_ns: int = _FOREVER) -> tuple[LevelRecord, ...]:
        """Levels begun by a moment, of one trial or of all, as they stood then."""
        query = (
            "SELECT id, trial, kind, value, state, start_ns, end_ns, window_start_ns, window_end_ns, result, notes"
            " FROM level WHERE (?1 IS NULL OR trial = ?1) AND start_ns <= ?2 ORDER BY id"
        )
        return tuple(rows.level_of(row, at_ns) for row in self._list(query, (trial, at_ns)))

    def phases(self, trial: int | None = None, at_ns: int = _FOREVER) -> tuple[Phase, ...]:
        """Phases begun by a moment, oldest first; one that ended later is still open."""
        query = (
            "SELECT trial, level, name, start_ns, end_ns FROM phase"
            " WHERE (?1 IS NULL OR trial = ?1) AND start_ns <= ?2 ORDER BY id"
        )
        return tuple(rows.phase_of(row, at_ns) for row in self._list(query, (trial, at_ns)))

    def events(self, start_ns: int = 0, end_ns: int = _FOREVER) -> tuple[Event, ...]:
        """Marks with `start_ns <= t <= end_ns`, oldest first."""
        query = "SELECT id, t_ns, kind, trial, text, data FROM event WHERE t_ns >= ? AND t_ns <= ? ORDER BY id"
        return tuple(rows.event_of(row) for row in self._list(query, (start_ns, end_ns)))

    def logs(self, at_ns: int = _FOREVER, *, after_id: int = 0, limit: int = 1000) -> tuple[LogLine, ...]:
        """The newest log lines up to a moment with an id above `after_id`, oldest first, at most `limit`."""
        query = "SELECT id, t_ns, stream, level, text FROM log WHERE id > ? AND t_ns <= ? ORDER BY id DESC LIMIT ?"
        found = self._list(query, (after_id, at_ns, limit))
        return tuple(
            LogLine(rows.integer(identity), rows.integer(t_ns), rows.word(stream), rows.word(level), rows.word(text))
            for identity, t_ns, stream, level, text in reversed(found)
        )

    def commands(self) -> tuple[Command, ...]:
        """Everything operators asked, oldest first."""
        query = "SELECT id, utc_ns, kind, args, state, reply FROM command ORDER BY id"
        return tuple(rows.command_of(row) for row in self._list(query))

    def requests(self, level: int, *, arrivals: bool = True) -> RequestTable:
        """All requests of a level.

        Args:
            level: Identity of the level.
            arrivals: Whether the arrival of every chunk of tokens is wanted; without, every row has 0 chunks.

        Raises:
            DamagedData: If a stored block cannot be read, or the level claims more than fits in memory.
        """
        from sessions.requests import RequestTable  # numpy stays out of the screen's start

        blobs = self._rows("SELECT data FROM request_block WHERE level = ? ORDER BY id", (level,))
        return RequestTable.from_blobs((data for (data,) in blobs), arrivals=arrivals, max_bytes=MAX_LEVEL_BYTES)

    def _format(self, source: int) -> struct.Struct:
        if source not in self._formats:
            self.sources()
        if source not in self._formats:
            raise DamagedData(f"{self.path}: there is no source {source}")
        return self._formats[source]

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        self._deadline_s = time.monotonic() + STEP_LIMIT_S
        try:
            for place, row in enumerate(self._connection.execute(query, parameters), 1):
                yield row
                if not place % _ROWS_A_STEP:
                    self._deadline_s = time.monotonic() + STEP_LIMIT_S
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if "interrupted" in str(error):
                raise DamagedData(f"{self.path}: reading took too long; it is not made as a session is") from error
            raise DamagedData(f"{self.path}: {rows.word(error)[:200]}") from error

    def _list(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        found, size_bytes = [], 0
        for row in self._rows(query, parameters):
            found.append(row)
            size_bytes += sum(len(value) for value in row if isinstance(value, str | bytes))
            if len(found) > MAX_ROWS or size_bytes > MAX_LIST_BYTES:
                raise DamagedData(f"{self.path}: more rows or longer texts than a session has")
        return found

    def _one(self, query: str, parameters: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        return next(self._rows(query, parameters))
