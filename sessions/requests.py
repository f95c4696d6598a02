"""Requests as they were sent and answered, token arrivals included: the raw data of every latency.

A `RequestTable` is columnar: one array per field, one row per request, so that a million of them fit in memory and
any percentile, SLO or objective can be recomputed from them. Times are session time in nanoseconds (`sessions.clock`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from sessions.blocks import decode_block, encode_block
from sessions.errors import DamagedData
from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

ABSENT = -1
"""Stands for a time or a count that is not known."""

MOST_ERRORS = 30_000
"""Error texts of a level that are told apart: servers put ids of requests into them."""

OTHER_ERRORS = "another error: there were too many different ones to keep them all"


class RequestStatus(IntEnum):
    """How a request ended. Everything but OK counts against the result."""

    OK = 0
    CONNECT = 1
    """No connection, or it was lost before a byte of the answer came."""
    HTTP = 2
    """An answer with a status other than 200."""
    CUT = 3
    """The stream ended without its end mark, or the connection broke in the middle."""
    INVALID = 4
    """The answer was not what the protocol says: not an event stream, an error inside a 200, no token."""
    TIMEOUT = 5
    """A phase took longer than its limit."""
    CANCELLED = 6
    """The client ended it: cancellation share of the workload, or the level was over."""


class ClockKind(IntEnum):
    """Which clock stamped the arrivals of a request."""

    KERNEL = 0
    """The kernel's receive time of the segment."""
    USER = 1
    """The time at which the process read the bytes."""


_ROW_DTYPES: dict[str, type[np.generic]] = {
    "index": np.int32,
    "session": np.int32,
    "turn": np.int16,
    "scheduled_ns": np.int64,
    "sent_ns": np.int64,
    "first_ns": np.int64,
    "last_ns": np.int64,
    "end_ns": np.int64,
    "isl_tokens": np.int32,
    "osl_tokens": np.int32,
    "cached_tokens": np.int32,
    "status": np.int8,
    "http_status": np.int16,
    "clock": np.int8,
    "lag_first_us": np.int32,
    "lag_max_us": np.int32,
    "doubtful_gaps": np.int32,
    "reused": np.int8,
    "chunks": np.int32,
    "error": np.int16,
}


@dataclass(frozen=True, slots=True, eq=False)
class RequestTable:
    """Requests by column; `chunk_us` and `chunk_tokens` hold the chunks of all rows one after the other.

    Attributes:
        index: Place of the request in the schedule, from 0.
        session: Conversation it belongs to, or -1.
        turn: Place in its conversation, from 0.
        scheduled_ns: When it should have left (open loop), else `sent_ns`.
        sent_ns: When the first byte of the request was written.
        first_ns: Arrival of the first chunk that carried a token, or -1.
        last_ns: Arrival of the last chunk that carried a token, or -1.
        end_ns: End of the answer, or of the attempt.
        isl_tokens: Prompt tokens as the server counted them (`usage`), else as asked, else -1.
        osl_tokens: Output tokens as the server counted them, else chunks with text.
        cached_tokens: Prompt tokens the server found in its prefix cache, or -1.
        status: A `RequestStatus`.
        http_status: HTTP status, or 0.
        clock: A `ClockKind`.
        lag_first_us: Time from the kernel's stamp of the first chunk to the moment we read it, or -1.
        lag_max_us: The largest such lag of the stream, or -1.
        doubtful_gaps: Gaps whose true length is unknown because one read held several events.
        reused: 1 when the connection had served a request before.
        chunks: Number of chunks with a token: how many entries of `chunk_us` are this row's.
        error: Place of its text in `errors`, or -1.
        chunk_us: Arrival of each chunk in microseconds after `sent_ns`.
        chunk_tokens: Tokens in each chunk.
        errors: Distinct error texts, one line each.
    """

    index: NDArray[np.int32]
    session: NDArray[np.int32]
    turn: NDArray[np.int16]
    scheduled_ns: NDArray[np.int64]
    sent_ns: NDArray[np.int64]
    first_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    isl_tokens: NDArray[np.int32]
    osl_tokens: NDArray[np.int32]
    cached_tokens: NDArray[np.int32]
    status: NDArray[np.int8]
    http_status: NDArray[np.int16]
    clock: NDArray[np.int8]
    lag_first_us: NDArray[np.int32]
    lag_max_us: NDArray[np.int32]
    doubtful_gaps: NDArray[np.int32]
    reused: NDArray[np.int8]
    chunks: NDArray[np.int32]
    error: NDArray[np.int16]
    chunk_us: NDArray[np.int32]
    chunk_tokens: NDArray[np.uint16]
    errors: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def empty(cls) -> RequestTable:
        """A table without rows."""
        return cls.from_rows([])

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]], *, errors: tuple[str, ...] = ()) -> RequestTable:
        """Build a table from one mapping per request.

        Each mapping holds every row column but `chunks`, plus `chunk_us` and `chunk_tokens`, two sequences of one
        length.

        Raises:
            KeyError: If a column is missing from a row.
        """
        columns: dict[str, Any] = {
            name: np.array([row[name] for row in rows], dtype=dtype)
            for name, dtype in _ROW_DTYPES.items()
            if name != "chunks"
        }
        columns["chunks"] = np.array([len(row["chunk_us"]) for row in rows], dtype=np.int32)
        columns["chunk_us"] = _ragged([row["chunk_us"] for row in rows], np.int32)
        columns["chunk_tokens"] = _ragged([row["chunk_tokens"] for row in rows], np.uint16)
        return cls(**columns, errors=errors)

    @classmethod
    def concat(cls, tables: Sequence[RequestTable]) -> RequestTable:
        """All rows of several tables, in order; error texts are merged, beyond `MOST_ERRORS` of them into one."""
        tables = [table for table in tables if len(table)]
        if not tables:
            return cls.empty()
        texts: dict[str, int] = {}
        error_columns = []
        for table in tables:
            places = np.array([_place_of(text, texts) for text in table.errors] + [ABSENT], np.int16)
            error_columns.append(places[table.error])
        columns = {
            field.name: np.concatenate([getattr(table, field.name) for table in tables])
            for field in fields(cls)
            if field.name not in ("errors", "error")
        }
        return cls(**columns, error=np.concatenate(error_columns), errors=tuple(texts))

    @property
    def nbytes(self) -> int:
        """Memory that the columns take."""
        return sum(getattr(self, field.name).nbytes for field in fields(self) if field.name != "errors")

    def without_arrivals(self) -> RequestTable:
        """The same requests without their chunks."""
        nothing = self.chunks[:0]
        return replace(
            self, chunks=np.zeros_like(self.chunks), chunk_us=nothing, chunk_tokens=nothing.astype(np.uint16)
        )

    def chunk_offsets(self) -> NDArray[np.int64]:
        """Where each row's chunks start in `chunk_us`; one entry more than rows."""
        return np.concatenate([[0], np.cumsum(self.chunks, dtype=np.int64)])

    def select(self, keep: NDArray[np.bool_]) -> RequestTable:
        """The rows for which `keep` is true."""
        chunk_keep = np.repeat(keep, self.chunks)
        columns = {name: getattr(self, name)[keep] for name in _ROW_DTYPES}
        return RequestTable(
            **columns,
            chunk_us=self.chunk_us[chunk_keep],
            chunk_tokens=self.chunk_tokens[chunk_keep],
            errors=self.errors,
        )

    def shifted(self, offset_ns: int) -> RequestTable:
        """The same requests with every time moved, for those that another host's clock has timed; what is absent stays so."""
        moved = {name: getattr(self, name) for name in _TIMES}
        return replace(
            self, **{name: np.where(times == ABSENT, times, times + offset_ns) for name, times in moved.items()}
        )

    def cut(self, chunks: int) -> Iterator[RequestTable]:
        """The same requests in tables of about so many chunks each, for blocks of bounded size."""
        if self.chunk_us.size <= chunks:
            yield self
            return
        piece = self.chunk_offsets()[:-1] // chunks
        for number in np.unique(piece):
            yield self.select(piece == number)

    def to_blob(self) -> bytes:
        """The table as one compressed block; see `sessions.blocks`."""
        columns: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ROW_DTYPES}
        # Times of a row lie close together: keep one absolute column and the others relative to it.
        for name in _RELATIVE:
            absolute = columns.pop(name)
            columns[f"{name}_rel"] = np.where(absolute == ABSENT, np.int64(ABSENT), absolute - self.sent_ns + _SHIFT)
        offsets = self.chunk_offsets()
        gaps = np.diff(self.chunk_us, prepend=np.int32(0)).astype(np.int32)
        starts = offsets[:-1][self.chunks > 0]
        gaps[starts] = self.chunk_us[starts]
        columns["chunk_gap_us"] = gaps
        columns["chunk_tokens"] = self.chunk_tokens
        return encode_block(columns, {"errors": _bounded(self.errors)})

    @classmethod
    def from_blob(cls, data: bytes, *, arrivals: bool = True) -> RequestTable:
        """Read what `to_blob` wrote.

        Args:
            data: The block.
            arrivals: Whether the chunks are wanted; without, every row has none.

        Raises:
            DamagedData: If the block is malformed or its columns contradict each other.
        """
        return cls.from_blobs([data], arrivals=arrivals)

    @classmethod
    def from_blobs(cls, blobs: Iterable[bytes], *, arrivals: bool = True, max_bytes: int | None = None) -> RequestTable:
        """Read many blocks at once, which is quicker than one by one.

        Args:
            blobs: The blocks, in order.
            arrivals: Whether the chunks are wanted; without, every row has none.
            max_bytes: Most memory that may be taken.

        Raises:
            DamagedData: If a block is malformed, its columns contradict each other, or they take more memory than allowed.
        """
        parts: dict[str, list[NDArray[Any]]] = {}
        texts: dict[str, int] = {}
        size_bytes = 0
        for data in blobs:
            columns, extra = decode_block(data, skip=frozenset() if arrivals else _CHUNK_COLUMNS)
            _check_block(columns, arrivals=arrivals)
            columns["error"] = _merged_errors(columns["error"], extra, texts)
            for name in _stored_columns(arrivals=arrivals):
                parts.setdefault(name, []).append(columns[name])
                size_bytes += columns[name].nbytes
            if max_bytes is not None and size_bytes > max_bytes:
                raise DamagedData(f"requests take more than {max_bytes >> 20} MiB")
        if not parts:
            return cls.empty()
        whole = {name: pieces[0] if len(pieces) == 1 else np.concatenate(pieces) for name, pieces in parts.items()}
        return cls._from_stored(whole, tuple(texts))

    @classmethod
    def _from_stored(cls, columns: dict[str, NDArray[Any]], errors: tuple[str, ...]) -> RequestTable:
        sent_ns = columns["sent_ns"].astype(np.int64, copy=False)
        for name in _RELATIVE:
            relative = columns.pop(f"{name}_rel").astype(np.int64, copy=False)
            columns[name] = np.where(relative == ABSENT, np.int64(ABSENT), relative - _SHIFT + sent_ns)
        if "chunks" not in columns:
            columns["chunks"] = np.zeros(len(sent_ns), np.int32)
            columns |= {"chunk_gap_us": np.empty(0, np.int32), "chunk_tokens": np.empty(0, np.uint16)}
        gaps, chunks = columns["chunk_gap_us"].astype(np.int64), columns["chunks"].astype(np.int64, copy=False)
        rows = {name: columns[name].astype(dtype, copy=False) for name, dtype in _ROW_DTYPES.items()}
        return cls(
            **rows,
            chunk_us=_sum_within(gaps, chunks).astype(np.int32),
            chunk_tokens=columns["chunk_tokens"].astype(np.uint16, copy=False),
            errors=errors,
        )


def _stored_columns(*, arrivals: bool) -> Iterator[str]:
    """The columns of a block, by the names they are stored under."""
    for name in _ROW_DTYPES:
        if arrivals or name not in _CHUNK_COLUMNS:
            yield f"{name}_rel" if name in _RELATIVE else name
    if arrivals:
        yield from ("chunk_gap_us", "chunk_tokens")


def _check_block(columns: dict[str, NDArray[Any]], *, arrivals: bool) -> None:
    """Make sure that the columns of a block are all there and fit each other.

    Raises:
        DamagedData: If not.
    """
    missing = [name for name in _stored_columns(arrivals=arrivals) if name not in columns]
    if missing:
        raise DamagedData(f"a request block cannot be read: it has no {missing[0]}")
    if any(values.dtype.kind not in "iu" for values in columns.values()):
        raise DamagedData("a request block cannot be read: it holds numbers of another kind")
    lengths = {columns[name].size for name in _stored_columns(arrivals=arrivals) if not name.startswith("chunk_")}
    if len(lengths) > 1:
        raise DamagedData("a request block has columns of different lengths")
    if arrivals:
        chunks, gaps = columns["chunks"].astype(np.int64), columns["chunk_gap_us"]
        if gaps.size != columns["chunk_tokens"].size:
            raise DamagedData("a request block has columns of different lengths")
        if (chunks < 0).any() or (chunks > gaps.size).any() or chunks.sum() != gaps.size:
            raise DamagedData("a request block contradicts itself about its chunks")


def _merged_errors(codes: NDArray[Any], extra: dict[str, Any], texts: dict[str, int]) -> NDArray[np.int16]:
    """The error codes of a block as places in the texts of all blocks, which grow by those of this one."""
    told = extra.get("errors", [])
    own = [clean_line(text) if isinstance(text, str) else "" for text in told] if isinstance(told, list) else []
    if codes.size and not (codes.min() >= ABSENT and codes.max() < len(own)):
        raise DamagedData("a request block names an error text that it does not hold")
    if not own:
        return np.full(codes.size, ABSENT, np.int16)
    merged: NDArray[np.int16] = np.array([*(_place_of(text, texts) for text in own), ABSENT], np.int16)[codes]
    return merged


def _place_of(text: str, texts: dict[str, int]) -> int:
    """Place of an error text among those known, which grow by it; when there are too many kinds, the rest are one."""
    if text not in texts and len(texts) >= MOST_ERRORS:
        text = OTHER_ERRORS
    return texts.setdefault(text, len(texts))


_CHUNK_COLUMNS = frozenset({"chunks", "chunk_gap_us", "chunk_tokens"})
_ERROR_CHARS = 100_000
"""Length of all error texts of a block together."""

_TIMES = ("scheduled_ns", "sent_ns", "first_ns", "last_ns", "end_ns")
_RELATIVE = ("scheduled_ns", "first_ns", "last_ns", "end_ns")
_SHIFT = 1 << 40
"""Added to relative times so that none of them can be mistaken for ABSENT (a request may leave late)."""


def _bounded(texts: Sequence[str]) -> list[str]:
    """Texts cut so that all of them fit the header of a block, however many there are."""
    room = max(_ERROR_CHARS // max(len(texts), 1), 8)
    return [clean_line(text[:room]) for text in texts]


def _ragged(parts: Sequence[Sequence[int]], dtype: type[np.generic]) -> NDArray[Any]:
    if not parts:
        return np.empty(0, dtype=dtype)
    return np.concatenate([np.asarray(part, dtype=dtype) for part in parts])


def _sum_within(gaps: NDArray[np.int64], chunks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Running sums of `gaps` that start anew at each row."""
    if not gaps.size:
        return gaps
    total = np.cumsum(gaps)
    ends = np.cumsum(chunks)
    before = np.concatenate([[0], total])[ends - chunks]
    sums: NDArray[np.int64] = total - np.repeat(before, chunks)
    return sums
