"""Large tables of a session as pandas DataFrames, column by column: no Python object per row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sessions.clock import NS_PER_MS, NS_PER_S
from sessions.columns import COLUMNS
from sessions.metrics import request_values
from sessions.requests import ABSENT, ClockKind, RequestStatus, RequestTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from sessions.records import LevelRecord, Source

_STATUS = [status.name.lower() for status in RequestStatus]
_CLOCK = [kind.name.lower() for kind in ClockKind]
_SAMPLE_KINDS = {"f": "<f4", "d": "<f8"}
_COUNTS = ("index", "session", "turn", "http_status", "doubtful_gaps")
_KNOWN_OR_NOT = ("isl_tokens", "osl_tokens", "cached_tokens")


def requests_frame(tables: Iterable[tuple[LevelRecord, RequestTable]], *, arrivals: bool) -> pd.DataFrame:
    """A row per request.

    Columns: `trial`, `level`, `load_kind`, `load` and those of `RequestTable`, times in s since the session's beginning; the
    latencies of `sessions.metrics`: `ttft_ms`, `e2e_ms`, and where arrivals were read `tpot_ms`, `itl_avg_ms` and `ttft_certain`.
    NaN where a request has none.
    """
    pairs = [(level, table) for level, table in tables if len(table)]
    whole = RequestTable.concat([table for _, table in pairs])
    sizes = [len(table) for _, table in pairs]
    columns: dict[str, Any] = {
        "trial": np.repeat(np.array([level.trial for level, _ in pairs], np.int64), sizes),
        "level": np.repeat(np.array([level.id for level, _ in pairs], np.int64), sizes),
        "load_kind": _categories([level.kind for level, _ in pairs], sizes),
        "load": np.repeat(np.array([level.value for level, _ in pairs], np.float64), sizes),
        **{name: getattr(whole, name) for name in _COUNTS},
        "status": _named(whole.status, _STATUS),
        "clock": _named(whole.clock, _CLOCK),
        "reused": whole.reused == 1,
        "error": _named(whole.error, whole.errors),
        **{name: _known(getattr(whole, name)) for name in _KNOWN_OR_NOT},
    }
    for name in ("scheduled", "sent", "first", "last", "end"):
        times = getattr(whole, f"{name}_ns")
        columns[f"{name}_s"] = np.where(times == ABSENT, np.nan, times / NS_PER_S)
    answered = whole.first_ns != ABSENT
    columns["ttft_ms"] = np.where(answered, (whole.first_ns - whole.scheduled_ns) / NS_PER_MS, np.nan)
    columns["e2e_ms"] = np.where(answered, (whole.last_ns - whole.scheduled_ns) / NS_PER_MS, np.nan)
    if arrivals:
        values = request_values(whole)
        columns |= {"tpot_ms": values.tpot_ms, "itl_avg_ms": values.itl_avg_ms, "ttft_certain": values.ttft_certain}
    columns["client_lag_ms"] = _known(whole.lag_first_us) / 1000
    return pd.DataFrame(columns, copy=False)


def tokens_frame(tables: Iterable[tuple[LevelRecord, RequestTable]]) -> pd.DataFrame:
    """A row per chunk of tokens: `trial`, `level`, `request` (its index), `chunk`, `t_s`, `tokens`, `gap_ms` (NaN: the first)."""
    frames = []
    for level, table in tables:
        starts = table.chunk_offsets()[:-1]
        row = np.repeat(np.arange(len(table)), table.chunks)
        place = np.arange(row.size) - starts[row]
        gap_ms = np.diff(table.chunk_us, prepend=0) / 1000
        frames.append(
            pd.DataFrame(
                {
                    "trial": np.full(row.size, level.trial, np.int64),
                    "level": np.full(row.size, level.id, np.int64),
                    "request": table.index[row],
                    "chunk": place.astype(np.int32),
                    "t_s": (table.sent_ns[row] + table.chunk_us.astype(np.int64) * 1000) / NS_PER_S,
                    "tokens": table.chunk_tokens,
                    "gap_ms": np.where(place == 0, np.nan, gap_ms),
                },
                copy=False,
            )
        )
    return _joined(frames, ("trial", "level", "request", "chunk", "t_s", "tokens", "gap_ms"))


def samples_frame(kind: str, parts: Iterable[tuple[Source, tuple[str, NDArray[np.int64], bytes]]]) -> pd.DataFrame:
    """A row per sample: `source`, `t_s`, and the source's own columns; without a source, those that its kind has today."""
    frames = []
    for source, (format_, times_ns, data) in parts:
        kinds = [_SAMPLE_KINDS[width] for width in format_.removeprefix("<")]
        fields = [(f"c{place}", kind) for place, kind in enumerate(kinds)]
        values = np.frombuffer(data, np.dtype(fields))
        columns = {"source": _categories([source.name], [len(times_ns)]), "t_s": times_ns / NS_PER_S}
        named = {name: values[f"c{place}"] for place, name in enumerate(source.columns)}
        frames.append(pd.DataFrame(columns | named))
    return _joined(frames, ("source", "t_s", *(column.name for column in COLUMNS[kind])))


def _joined(frames: Sequence[pd.DataFrame], least: Sequence[str]) -> pd.DataFrame:
    """The frames one after the other; where there is none, a table with the `least` columns, of numbers, and no row."""
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({name: np.empty(0) for name in least})


def _known(values: NDArray[Any]) -> NDArray[np.float64]:
    known: NDArray[np.float64] = np.where(values == ABSENT, np.nan, values.astype(np.float64))
    return known


def _categories(names: Sequence[str], sizes: Sequence[int]) -> pd.Categorical[Any]:
    kinds = sorted(set(names))
    return _categorical(np.repeat(np.array([kinds.index(name) for name in names], np.int32), sizes), kinds)


def _named(codes: NDArray[Any], names: Sequence[str]) -> pd.Categorical[Any]:
    """Codes as words; a code without a word becomes missing. Words that repeat share one category."""
    kinds = list(dict.fromkeys(names))
    places = np.array([kinds.index(name) for name in names] + [-1], np.int32)
    known = (codes >= 0) & (codes < len(names))
    return _categorical(places[np.where(known, codes, len(names))], kinds)


def _categorical(codes: NDArray[np.int32], kinds: Sequence[str]) -> pd.Categorical[Any]:
    made: pd.Categorical[Any] = pd.Categorical.from_codes(codes, pd.Index(list(kinds), dtype="object"))
    return made
