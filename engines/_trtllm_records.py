"""Iteration records of TensorRT-LLM's `/metrics`: validated, ordered, placed in time (contract trtllm 2.3, 2.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from engines.sample import NAN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TIMESTAMP_FORMAT = "%m-%d-%Y %H:%M:%S.%f"
LARGEST = 2**62
CLOCK_JUMP_S = 60.0


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """One iteration of the executor, over all attention-DP ranks. NaN: not said.

    Attributes:
        iteration: Number of the iteration; restarts with the server.
        wall_s: The server's local wall clock, read as if it were UTC: only differences mean anything.
        dropped: The server's own count of records it lost, where it keeps one.
    """

    iteration: int
    wall_s: float
    active: float
    queued: float
    scheduled: float
    context_requests: float
    generation_requests: float
    paused: float
    completed: float
    admission_limit: float
    context_tokens: float
    latency_ms: float
    host_step_ms: float
    gpu_step_ms: float
    queue_ms: float
    new_active: float
    kv_used_blocks: float
    kv_max_blocks: float
    tokens_per_block: float
    reused_blocks: float
    missed_blocks: float
    host_used_blocks: float
    host_max_blocks: float
    drafted: float
    accepted: float
    acceptance_length: float
    pipelined: bool
    dropped: float


_SUMMED = frozenset(
    {
        "active",
        "queued",
        "scheduled",
        "context_requests",
        "generation_requests",
        "paused",
        "completed",
        "admission_limit",
        "context_tokens",
        "queue_ms",
        "new_active",
        "kv_used_blocks",
        "kv_max_blocks",
        "reused_blocks",
        "missed_blocks",
        "host_used_blocks",
        "host_max_blocks",
        "drafted",
        "accepted",
    }
)
"""Counts that add up over attention-DP ranks; of everything else the largest counts."""


def number(owner: Any, key: str) -> float:
    """A finite, not negative number of a JSON object, or NaN."""
    value = owner.get(key) if isinstance(owner, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NAN
    return float(value) if 0 <= value <= LARGEST else NAN


def first_positive(*values: float) -> float:
    """The first value above 0, or NaN: the PyTorch backend writes 0 for what it does not know."""
    return next((value for value in values if value > 0), NAN)


def parse_wall_s(text: object) -> float:
    """Seconds of a record's time stamp, or NaN; early builds leave it empty."""
    if not isinstance(text, str):
        return NAN
    try:
        return datetime.strptime(text, TIMESTAMP_FORMAT).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return NAN


def parse_record(data: object) -> IterationRecord | None:
    """One record, or None when it is none: every key is optional but the iteration's number."""
    iteration = number(data, "iter")
    if not isinstance(data, dict) or math.isnan(iteration):
        return None
    batch = data.get("inflightBatchingStats")
    cache = data.get("kvCacheStats")
    spec = data.get("specDecodingStats")
    drafted = number(spec, "numDraftTokens")
    forward_ms = number(data, "gpuForwardTimeMS")
    return IterationRecord(
        iteration=int(iteration),
        wall_s=parse_wall_s(data.get("timestamp")),
        active=number(data, "numActiveRequests"),
        queued=number(data, "numQueuedRequests"),
        scheduled=number(batch, "numScheduledRequests"),
        context_requests=number(batch, "numContextRequests"),
        generation_requests=number(batch, "numGenRequests"),
        paused=number(batch, "numPausedRequests"),
        completed=number(data, "numCompletedRequests"),
        admission_limit=first_positive(number(data, "maxBatchSizeRuntime"), number(data, "maxNumActiveRequests")),
        context_tokens=number(batch, "numCtxTokens"),
        latency_ms=number(data, "iterLatencyMS"),
        host_step_ms=number(data, "hostStepTimeMS"),
        gpu_step_ms=number(data, "prevDeviceStepTimeMS") if math.isnan(forward_ms) else forward_ms,
        queue_ms=number(data, "newActiveRequestsQueueLatencyMS"),
        new_active=number(data, "numNewActiveRequests"),
        kv_used_blocks=number(cache, "usedNumBlocks"),
        kv_max_blocks=number(cache, "maxNumBlocks"),
        tokens_per_block=number(cache, "tokensPerBlock"),
        reused_blocks=number(cache, "reusedBlocks"),
        missed_blocks=number(cache, "missedBlocks"),
        host_used_blocks=_over_windows(data, "secondaryUsedNumBlocks"),
        host_max_blocks=_over_windows(data, "secondaryMaxNumBlocks"),
        drafted=drafted,
        accepted=number(spec, "numAcceptedTokens"),
        acceptance_length=number(spec, "acceptanceLength") if drafted > 0 else NAN,
        pipelined=number(batch, "microBatchId") > 0,
        dropped=number(data, "statsDroppedFrames"),
    )


def _over_windows(data: Mapping[str, Any], key: str) -> float:
    """A gauge of `kvCacheIterationStats`, summed over its attention windows."""
    windows = data.get("kvCacheIterationStats")
    values = [number(window, key) for window in windows.values()] if isinstance(windows, dict) else []
    return math.fsum(value for value in values if value == value) if values else NAN


def _identity(data: object) -> tuple[float, ...]:
    """What makes a record one of a kind: iteration, rank and micro-batch (contract trtllm 2.3 rule 7)."""
    batch = data.get("inflightBatchingStats") if isinstance(data, dict) else None
    parts = (number(data, "iter"), number(data, "attentionDpRank"), number(data, "rank"), number(batch, "microBatchId"))
    return tuple(-1.0 if math.isnan(part) else part for part in parts)


def merge_ranks(records: Sequence[IterationRecord]) -> IterationRecord:
    """One record out of those of all ranks for the same iteration."""
    if len(records) == 1:
        return records[0]
    first = records[0]
    merged: dict[str, Any] = {"iteration": first.iteration, "pipelined": any(record.pipelined for record in records)}
    for name in IterationRecord.__slots__:
        if name not in merged:
            values = [value for record in records if not math.isnan(value := getattr(record, name))]
            merged[name] = (math.fsum(values) if name in _SUMMED else max(values)) if values else NAN
    return IterationRecord(**merged)


class RecordStream:
    """Orders what the polls bring, drops duplicates, counts what is missing, and finds the time of each record.

    Time stamps are local wall time without a zone. A record arrives later than it was made, never earlier: the smallest
    difference between our monotonic clock at arrival and the time stamp, over all polls, is the best offset known.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._last_iteration = -1
        self._last_dropped = NAN
        self._offset_s = NAN

    def accept(self, page: Iterable[object], arrival_s: float) -> list[tuple[float, IterationRecord]]:
        """New records with their monotonic time in s, oldest first.

        Args:
            page: Items of the JSON array.
            arrival_s: Monotonic time at which the page was complete.
        """
        unique: dict[tuple[float, ...], IterationRecord] = {}
        for item in page:
            record = parse_record(item)
            if record is None:
                self.lost += 1
            else:
                unique.setdefault(_identity(item), record)
        ordered = sorted(unique.values(), key=lambda record: record.iteration)
        merged = [merge_ranks(list(same)) for _, same in groupby(ordered, key=lambda record: record.iteration)]
        return self._place(self._new_ones(merged), arrival_s)

    def _new_ones(self, records: list[IterationRecord]) -> list[IterationRecord]:
        if records and records[-1].iteration < self._last_iteration:
            self._last_iteration = -1  # The server was restarted: its count began again.
            self._last_dropped = NAN
        fresh = [record for record in records if record.iteration > self._last_iteration]
        for record in fresh:
            self._count_gap(record)
        return fresh

    def _count_gap(self, record: IterationRecord) -> None:
        """The server's own count of lost records where it has one, else the gap in its numbers."""
        if not math.isnan(record.dropped):
            if not math.isnan(self._last_dropped):
                self.lost += max(0, int(record.dropped - self._last_dropped))
            self._last_dropped = record.dropped
        elif self._last_iteration >= 0:
            self.lost += record.iteration - self._last_iteration - 1
        self._last_iteration = record.iteration

    def _place(self, records: list[IterationRecord], arrival_s: float) -> list[tuple[float, IterationRecord]]:
        stamps = [record.wall_s for record in records if not math.isnan(record.wall_s)]
        if stamps:
            offset_s = arrival_s - max(stamps)
            if math.isnan(self._offset_s) or abs(offset_s - self._offset_s) > CLOCK_JUMP_S:
                self._offset_s = offset_s
            self._offset_s = min(self._offset_s, offset_s)
        placed = []
        for record in records:
            known = not math.isnan(record.wall_s) and not math.isnan(self._offset_s)
            placed.append((min(arrival_s, record.wall_s + self._offset_s) if known else arrival_s, record))
        return placed
