"""Results in the file layouts of AIPerf, so that scripts made for it go on working.

`profile_export_aiperf.json` (its schema 1.1: statistics by tag, then run facts) and `profile_export.jsonl` (one record
per request). The numbers in these files follow AIPerf's definitions where they differ from ours: inter-token latency is
the mean of a request, (last - first token) / (OSL - 1), and latencies count from sending. Sources: ai-dynamo/aiperf,
docs/reference/json-export-schema.md and docs/tutorials/working-with-profile-exports.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from sessions.clock import NS_PER_MS, NS_PER_S
from sessions.metrics import describe, meets, request_values, slos_of_requests
from sessions.requests import ABSENT, RequestStatus, RequestTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sessions.clock import SessionClock
    from sessions.slo import Slo

SUMMARY_NAME = "profile_export_aiperf.json"
RECORDS_NAME = "profile_export.jsonl"
SCHEMA_VERSION = "1.1"

_UNITS = {
    "time_to_first_token": "ms",
    "inter_token_latency": "ms",
    "inter_chunk_latency": "ms",
    "request_latency": "ms",
    "input_sequence_length": "tokens",
    "output_sequence_length": "tokens",
    "output_token_count": "tokens",
    "output_token_throughput_per_user": "tokens/sec/user",
    "output_token_throughput": "tokens/sec",
    "total_token_throughput": "tokens/sec",
    "request_throughput": "requests/sec",
    "request_count": "requests",
    "error_request_count": "requests",
    "good_request_count": "requests",
    "goodput": "requests/sec",
    "benchmark_duration": "sec",
}
_CANCELLED_CODE = 499


@dataclass(frozen=True, slots=True)
class Run:
    """A measured level, as these files need it.

    Attributes:
        table: All its requests.
        window_start_ns: Session time at which the window opened; requests that ended before are warm-up.
        window_end_ns: Session time at which it closed.
        clock: For UTC times.
        request_id_prefix: See `tuner.load.plan.request_id_prefix`.
        config: What was asked for; free of secrets. AIPerf's own `input_config` is its configuration, which this is not: its
            models refuse a file with another one.
        was_cancelled: Whether an operator ended it before its time.
        slos: What a good request meets; without one for requests nothing is told of goodput, as by AIPerf.
    """

    table: RequestTable
    window_start_ns: int
    window_end_ns: int
    clock: SessionClock
    request_id_prefix: str = "trtune-"
    config: Mapping[str, Any] = field(default_factory=dict)
    was_cancelled: bool = False
    slos: Sequence[Slo] = ()


def write_summary(run: Run, path: Path) -> None:
    """Write `profile_export_aiperf.json`."""
    path.write_bytes(orjson.dumps(summary(run), option=orjson.OPT_INDENT_2))


def write_records(run: Run, path: Path) -> None:
    """Write `profile_export.jsonl`: the requests that the summary is of, and those of the warm-up with that phase."""
    with path.open("wb") as file:
        for record in records(run):
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def summary(run: Run) -> dict[str, Any]:
    """The content of `profile_export_aiperf.json`."""
    ended = _measured(run)
    good = ended.select(ended.status == RequestStatus.OK)
    window_s = max((run.window_end_ns - run.window_start_ns) / NS_PER_S, 1e-9)
    output_tokens = int(good.osl_tokens.sum())
    input_tokens = int(np.maximum(good.isl_tokens, 0).sum())
    scalars = {
        "output_token_throughput": output_tokens / window_s,
        "total_token_throughput": (output_tokens + input_tokens) / window_s,
        "request_throughput": len(good) / window_s,
        "request_count": float(len(good)),
        "error_request_count": float(len(ended) - len(good)),
        "benchmark_duration": window_s,
    }
    if slos_of_requests(run.slos):
        met = float(np.count_nonzero(meets(request_values(good), run.slos)))
        scalars |= {"good_request_count": met, "goodput": met / window_s}
    return {
        "schema_version": SCHEMA_VERSION,
        **{tag: _statistics(tag, values) for tag, values in _distributions(good).items()},
        **{tag: {"unit": _UNITS[tag], "avg": value} for tag, value in scalars.items()},
        "trtune_config": dict(run.config),
        "start_time": _utc(run, run.window_start_ns),
        "end_time": _utc(run, run.window_end_ns),
        "was_cancelled": run.was_cancelled,
        "error_summary": _error_summary(ended),
    }


def records(run: Run) -> Iterator[dict[str, Any]]:
    """The lines of `profile_export.jsonl`, in the order of sending.

    There is no phase for what ended after the window: it is left out, so that the file tells the same numbers as the summary.
    """
    table = run.table.select(run.table.end_ns <= run.window_end_ns)
    offsets = table.chunk_offsets()
    for row in np.argsort(table.sent_ns, kind="stable").tolist():
        chunk_us = table.chunk_us[offsets[row] : offsets[row + 1]]
        status = RequestStatus(int(table.status[row]))
        yield {
            "metadata": _metadata(run, table, row, status),
            "metrics": _metrics(table, row, chunk_us) if status == RequestStatus.OK else {},
            "error": None if status == RequestStatus.OK else _error(table, row, status),
        }


def _measured(run: Run) -> RequestTable:
    table = run.table
    return table.select((table.end_ns > run.window_start_ns) & (table.end_ns <= run.window_end_ns))


def _distributions(good: RequestTable) -> dict[str, NDArray[np.float64]]:
    decode_ms = (good.last_ns - good.first_ns) / NS_PER_MS
    with np.errstate(divide="ignore", invalid="ignore"):
        itl_ms = np.where(good.osl_tokens > 1, decode_ms / (good.osl_tokens - 1), np.nan)
        itl_ms = np.where(itl_ms > 0, itl_ms, np.nan)
    rows = np.repeat(np.arange(len(good)), good.chunks)
    inside = rows[1:] == rows[:-1]
    return {
        "time_to_first_token": (good.first_ns - good.sent_ns) / NS_PER_MS,
        "inter_token_latency": itl_ms,
        "inter_chunk_latency": (np.diff(good.chunk_us) / 1000)[inside],
        "request_latency": (good.last_ns - good.sent_ns) / NS_PER_MS,
        "input_sequence_length": good.isl_tokens[good.isl_tokens != ABSENT].astype(np.float64),
        "output_sequence_length": good.osl_tokens.astype(np.float64),
        "output_token_throughput_per_user": 1000 / itl_ms,
    }


def _statistics(tag: str, values: NDArray[np.float64]) -> dict[str, Any]:
    found = describe(values)
    if not found:
        return {"unit": _UNITS[tag]}
    return {"unit": _UNITS[tag], **found, "count": int(found["count"]), "sum": found["avg"] * found["count"]}


def _metadata(run: Run, table: RequestTable, row: int, status: RequestStatus) -> dict[str, Any]:
    session = int(table.session[row])
    index = int(table.index[row])
    end_ns = run.clock.to_utc_ns(int(table.end_ns[row]))
    answered = table.first_ns[row] != ABSENT
    cancelled = status == RequestStatus.CANCELLED
    return {
        "session_num": session if session != ABSENT else index,
        "x_request_id": f"{run.request_id_prefix}{index}",
        "conversation_id": str(session if session != ABSENT else index),
        "turn_index": int(table.turn[row]),
        "credit_issued_ns": run.clock.to_utc_ns(int(table.scheduled_ns[row])),
        "request_start_ns": run.clock.to_utc_ns(int(table.sent_ns[row])),
        "request_ack_ns": run.clock.to_utc_ns(int(table.first_ns[row])) if answered else None,
        "request_end_ns": end_ns,
        "worker_id": "trtune",
        "record_processor_id": "trtune",
        "benchmark_phase": "warmup" if table.end_ns[row] <= run.window_start_ns else "profiling",
        "was_cancelled": cancelled,
        "cancellation_time_ns": end_ns if cancelled else None,
    }


def _metrics(table: RequestTable, row: int, chunk_us: NDArray[np.int32]) -> dict[str, Any]:
    osl_tokens = int(table.osl_tokens[row])
    decode_ms = float(table.last_ns[row] - table.first_ns[row]) / NS_PER_MS
    values: dict[str, Any] = {
        "time_to_first_token": float(table.first_ns[row] - table.sent_ns[row]) / NS_PER_MS,
        "request_latency": float(table.last_ns[row] - table.sent_ns[row]) / NS_PER_MS,
        "output_token_count": osl_tokens,
        "output_sequence_length": osl_tokens,
    }
    if table.isl_tokens[row] != ABSENT:
        values["input_sequence_length"] = int(table.isl_tokens[row])
    if osl_tokens > 1 and decode_ms > 0:
        values["inter_token_latency"] = decode_ms / (osl_tokens - 1)
        values["output_token_throughput_per_user"] = 1000 * (osl_tokens - 1) / decode_ms
        values["inter_chunk_latency"] = (np.diff(chunk_us) / 1000).tolist()
    return {tag: {"value": value, "unit": _UNITS[tag]} for tag, value in values.items()}


def _error(table: RequestTable, row: int, status: RequestStatus) -> dict[str, Any]:
    code = int(table.http_status[row])
    if status == RequestStatus.CANCELLED:
        code = _CANCELLED_CODE
    return {"code": code or None, "type": status.name, "message": _error_message(table, row)}


def _error_message(table: RequestTable, row: int) -> str:
    place = int(table.error[row])
    return table.errors[place] if place != ABSENT else ""


def _error_summary(ended: RequestTable) -> list[dict[str, Any]]:
    counted: Counter[tuple[str, int, str]] = Counter()
    for row in np.flatnonzero(ended.status != RequestStatus.OK).tolist():
        kind = RequestStatus(int(ended.status[row])).name
        counted[kind, int(ended.http_status[row]), _error_message(ended, row)] += 1
    return [
        {"error_details": {"code": code or None, "type": kind, "message": message}, "count": count}
        for (kind, code, message), count in counted.most_common()
    ]


def _utc(run: Run, session_ns: int) -> str:
    return datetime.fromtimestamp(run.clock.to_utc_ns(session_ns) / NS_PER_S, UTC).isoformat()
