"""Samples in short: lowest, highest, mean and last value of spans of 16 s and 256 s, written while the session grows.

Derived data: everything here can be computed again from the samples. With it a day at five samples a second is drawn
from a few hundred rows. A span is written once it is over and `LATE_NS` have passed, and again when a sample comes later still
(another host's may). What no row covers (the newest spans, and sessions of format 1) is computed when asked for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

WIDTHS_S = (16, 256)
"""Lengths of the spans, shortest first; each is a multiple of the one before."""

LATE_NS = 5 * NS_PER_S
"""How long after its end a span is written."""

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Span:
    """What the samples of a source were in a span of time; NaN where the source did not say.

    Attributes:
        start_ns: Session time at which it begins.
        end_ns: Session time at which it ends (not included).
        low: Lowest value of each column.
        high: Highest value of each column.
        mean: Mean of the known values of each column.
        last: Newest known value of each column.
        counts: How many values of each column are known.
    """

    start_ns: int
    end_ns: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    last: tuple[float, ...]
    counts: tuple[int, ...]


def span_struct(sample_format: str) -> struct.Struct:
    """How the numbers of a span are packed: four times as a sample of the source, then the counts."""
    fields = sample_format.removeprefix("<")
    return struct.Struct("<" + 4 * fields + "I" * len(fields))


def span_of_samples(start_ns: int, end_ns: int, rows: Sequence[tuple[float, ...]]) -> Span:
    """Sum up the samples of a span, oldest first; there must be one."""
    low, high, mean, last, counts = [], [], [], [], []
    for column in zip(*rows, strict=True):
        known = [value for value in column if value == value]
        counts.append(len(known))
        low.append(min(known, default=_NAN))
        high.append(max(known, default=_NAN))
        mean.append(sum(known) / len(known) if known else _NAN)
        last.append(known[-1] if known else _NAN)
    return Span(start_ns, end_ns, tuple(low), tuple(high), tuple(mean), tuple(last), tuple(counts))


def span_of_spans(start_ns: int, end_ns: int, parts: Sequence[Span]) -> Span:
    """Sum up spans, oldest first; there must be one."""
    low, high, mean, last, counts = [], [], [], [], []
    for place in range(len(parts[0].low)):
        known = [part for part in parts if part.counts[place]]
        count = sum(part.counts[place] for part in known)
        counts.append(count)
        low.append(min((part.low[place] for part in known), default=_NAN))
        high.append(max((part.high[place] for part in known), default=_NAN))
        mean.append(sum(part.mean[place] * (part.counts[place] / count) for part in known) if known else _NAN)
        last.append(known[-1].last[place] if known else _NAN)
    return Span(start_ns, end_ns, tuple(low), tuple(high), tuple(mean), tuple(last), tuple(counts))


def group_samples(width_s: int, samples: Iterable[tuple[int, tuple[float, ...]]]) -> list[Span]:
    """Cut samples, oldest first, into spans of a width."""
    width_ns = width_s * NS_PER_S
    groups: dict[int, list[tuple[float, ...]]] = {}
    for t_ns, values in samples:
        groups.setdefault(t_ns // width_ns, []).append(values)
    return [span_of_samples(place * width_ns, (place + 1) * width_ns, rows) for place, rows in groups.items()]


def group_spans(width_s: int, spans: Iterable[Span]) -> list[Span]:
    """Sum up spans, oldest first, into longer ones of a width."""
    width_ns = width_s * NS_PER_S
    groups: dict[int, list[Span]] = {}
    for span in spans:
        groups.setdefault(span.start_ns // width_ns, []).append(span)
    return [span_of_spans(place * width_ns, (place + 1) * width_ns, parts) for place, parts in groups.items()]


class RollUp:
    """Writes the spans of one source as they come to their end."""

    def __init__(self, connection: sqlite3.Connection, source: int, sample_format: str) -> None:
        self._connection = connection
        self._source = source
        self._sample = struct.Struct(sample_format)
        self._span = span_struct(sample_format)
        self.go_on()

    def go_on(self) -> None:
        """Go on where the file ends: at the beginning, and after a transaction that was rolled back."""
        self._due_ns = [self._next_due_ns(width_s) for width_s in WIDTHS_S]

    def advance(self, times_ns: Sequence[int]) -> None:
        """Write the spans that are over, or have changed, now that samples of these times have been written."""
        oldest_ns, until_ns = min(times_ns), max(times_ns) - LATE_NS
        for place, width_s in enumerate(WIDTHS_S):
            width_ns = width_s * NS_PER_S
            if oldest_ns < self._due_ns[place]:
                until_ns = max(until_ns, self._due_ns[place])
                self._due_ns[place] = oldest_ns // width_ns * width_ns
            end_ns = until_ns // width_ns * width_ns
            if end_ns <= self._due_ns[place]:
                continue
            self._write(width_s, self._spans(place, self._due_ns[place], end_ns))
            self._due_ns[place] = end_ns

    def _next_due_ns(self, width_s: int) -> int:
        width_ns = width_s * NS_PER_S
        (last,) = self._connection.execute(
            "SELECT max(place) FROM rollup WHERE source = ? AND width_s = ?", (self._source, width_s)
        ).fetchone()
        if last is not None:
            return (int(last) + 1) * width_ns
        (first_ns,) = self._connection.execute(
            "SELECT min(t_ns) FROM sample WHERE source = ?", (self._source,)
        ).fetchone()
        return int(first_ns or 0) // width_ns * width_ns

    def _spans(self, place: int, start_ns: int, end_ns: int) -> list[Span]:
        if place == 0:
            rows = self._connection.execute(
                "SELECT t_ns, data FROM sample WHERE source = ? AND t_ns >= ? AND t_ns < ? ORDER BY t_ns",
                (self._source, start_ns, end_ns),
            )
            return group_samples(WIDTHS_S[0], ((t_ns, self._sample.unpack(data)) for t_ns, data in rows))
        finer_s = WIDTHS_S[place - 1]
        rows = self._connection.execute(
            "SELECT place, data FROM rollup WHERE source = ? AND width_s = ? AND place >= ? AND place < ? ORDER BY place",
            (self._source, finer_s, start_ns // (finer_s * NS_PER_S), end_ns // (finer_s * NS_PER_S)),
        )
        finer = (unpack_span(self._span, finer_s, row_place, data) for row_place, data in rows)
        return group_spans(WIDTHS_S[place], finer)

    def _write(self, width_s: int, spans: Sequence[Span]) -> None:
        width_ns = width_s * NS_PER_S
        self._connection.executemany(
            "INSERT OR REPLACE INTO rollup VALUES (?, ?, ?, ?)",
            [(self._source, width_s, span.start_ns // width_ns, pack_span(self._span, span)) for span in spans],
        )


def pack_span(packer: struct.Struct, span: Span) -> bytes:
    """The bytes of a span."""
    return packer.pack(*span.low, *span.high, *span.mean, *span.last, *span.counts)


def unpack_span(packer: struct.Struct, width_s: int, place: int, data: bytes) -> Span:
    """A span from its bytes.

    Raises:
        struct.error: If they have the wrong size.
    """
    width_ns = width_s * NS_PER_S
    values = packer.unpack(data)
    count = len(values) // 5
    low, high, mean, last = (values[part * count : (part + 1) * count] for part in range(4))
    return Span(place * width_ns, (place + 1) * width_ns, low, high, mean, last, values[4 * count :])
