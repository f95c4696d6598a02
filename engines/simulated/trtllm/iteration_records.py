"""Iteration records as ``/metrics`` prints them, for each version (contract section 2.4)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engines.simulated.trtllm.versions import (
    V1_3,
    V1_3_LATE,
    V1_3_SEQUENCE,
    V1_3_STEP_TIMES,
    ServerVersion,
)

if TYPE_CHECKING:
    from engines.simulated.model import Iteration
    from engines.simulated.model.kv_pool import KvSnapshot


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """An iteration with what the server knows around it.

    Attributes:
        iteration: the iteration.
        built_at_s: Unix time at which its batch was built.
        previous_kv: the KV pool one record earlier.
        previous_duration_ms: duration of the record before, 0.0 without one.
        previous_gpu_ms: GPU time of the record before, 0.0 without one.
        gpu_memory_bytes: memory in use on the first GPU.
        sequence: number of the record.
        dropped: records lost to a full buffer before this one.
    """

    iteration: Iteration
    built_at_s: float
    previous_kv: KvSnapshot
    previous_duration_ms: float
    previous_gpu_ms: float
    gpu_memory_bytes: int
    sequence: int
    dropped: int


_WARM_UP_ITERATIONS: Final = 12
"""Iterations before the first request; the server counts them (contract section 2.3 rule 8)."""


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """What a record holds on one server.

    Attributes:
        version: server version.
        max_active_requests: admission ceiling.
        attention_window: the key of ``kvCacheIterationStats``, in tokens.
        overlap: whether the overlap scheduler or pipeline parallelism makes a latency span two loops.
    """

    version: ServerVersion
    max_active_requests: int
    attention_window: int
    overlap: bool

    def render(self, record: IterationRecord) -> dict[str, Any]:
        """Return the record as the server would serialise it."""
        iteration, version = record.iteration, self.version
        latency_ms = iteration.duration_ms + (record.previous_duration_ms if self.overlap else 0.0)
        rendered: dict[str, Any] = {
            "timestamp": _timestamp(record.built_at_s),
            "iter": iteration.index + _WARM_UP_ITERATIONS,
            "iterLatencyMS": latency_ms,
            "newActiveRequestsQueueLatencyMS": iteration.new_active_queue_ms,
            "numNewActiveRequests": iteration.new_active_requests,
            "numActiveRequests": iteration.active_requests,
            "numQueuedRequests": iteration.queued_requests,
            "numCompletedRequests": len(iteration.completed),
            "maxNumActiveRequests": self.max_active_requests,
        }
        if version >= V1_3:  # absent from the captured builds, zero under the PyTorch backend
            for name in ("maxBatchSize", "maxNumTokens"):
                for suffix in ("Static", "TunerRecommended", "Runtime"):
                    rendered[name + suffix] = 0
        rendered |= {
            "gpuMemUsage": record.gpu_memory_bytes,
            "cpuMemUsage": 0,
            "pinnedMemUsage": 0,
            "kvCacheStats": _kv_stats(iteration.kv),
            "staticBatchingStats": None,
            "inflightBatchingStats": _batching_stats(iteration, version),
            "specDecodingStats": None,
        }
        if version >= V1_3:
            window = str(self.attention_window)
            rendered["kvCacheIterationStats"] = {window: _kv_iteration_stats(iteration, record.previous_kv)}
        if version >= V1_3_LATE:
            rendered["attentionDpRank"] = 0
        if version >= V1_3_STEP_TIMES:
            rendered |= {
                "hostStepTimeMS": iteration.duration_ms,
                "prevDeviceStepTimeMS": record.previous_gpu_ms,
                "gpuForwardTimeMS": iteration.cost.gpu_ms,
                "schedulerMode": "overlap" if self.overlap else "non_overlap",
            }
        if version >= V1_3_SEQUENCE:
            rendered |= {"statsSequence": record.sequence, "statsDroppedFrames": record.dropped}
        return rendered


def log_line(record: IterationRecord) -> str:
    """Return the line ``print_iter_log`` writes for an iteration (contract section 9)."""
    iteration = record.iteration
    states = {
        "num_ctx_requests": iteration.context_requests,
        "num_ctx_tokens": iteration.context_tokens,
        "num_generation_tokens": iteration.generation_requests,
    }
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.built_at_s))
    active = iteration.active_requests
    return (
        f"iter = {iteration.index + _WARM_UP_ITERATIONS}, global_rank = 0, rank = 0, "
        f"currank_total_requests = {active}/{active}, host_step_time = {iteration.duration_ms}ms, "
        f"prev_device_step_time = {record.previous_gpu_ms}ms, timestamp = {stamp}, "
        f"num_scheduled_requests: {iteration.scheduled_requests}, states = {states}"
    )


def _timestamp(unix_s: float) -> str:
    whole = int(unix_s)
    micros = int((unix_s - whole) * 1e6)
    return f"{time.strftime('%m-%d-%Y %H:%M:%S', time.localtime(whole))}.{micros:06d}"


def _kv_stats(kv: KvSnapshot) -> dict[str, Any]:
    looked_up = kv.reused_blocks + kv.missed_blocks
    return {
        "maxNumBlocks": kv.max_blocks,
        "freeNumBlocks": kv.free_blocks,
        "usedNumBlocks": kv.used_blocks,
        "tokensPerBlock": kv.tokens_per_block,
        "allocTotalBlocks": kv.alloc_total_blocks,
        "allocNewBlocks": kv.alloc_new_blocks,
        "reusedBlocks": kv.reused_blocks,
        "missedBlocks": kv.missed_blocks,
        "cacheHitRate": kv.reused_blocks / looked_up if looked_up else 0.0,
    }


def _batching_stats(iteration: Iteration, version: ServerVersion) -> dict[str, Any]:
    stats: dict[str, Any] = {
        "numScheduledRequests": iteration.scheduled_requests,
        "numContextRequests": iteration.context_requests,
        "numGenRequests": iteration.generation_requests,
        "numPausedRequests": iteration.paused_requests,
        "numCtxTokens": iteration.context_tokens,
        "microBatchId": iteration.micro_batch_id,
        "avgNumDecodedTokensPerIter": 0.0,
    }
    if version >= V1_3:
        stats |= {
            "numCtxKvTokens": iteration.context_kv_tokens,
            "numGenKvTokens": iteration.generation_kv_tokens,
            "numQueuedContextRequests": iteration.queued_requests,
            "numQueuedCtxTokens": iteration.queued_context_tokens,
            "numQueuedGenRequests": 0,
            "numQueuedGenKvTokens": 0,
            "numPausedKvTokens": iteration.paused_kv_tokens,
        }
    return stats


def _kv_iteration_stats(iteration: Iteration, before: KvSnapshot) -> dict[str, Any]:
    now = iteration.kv
    reused = now.reused_blocks - before.reused_blocks
    missed = now.missed_blocks - before.missed_blocks
    new = now.alloc_new_blocks - before.alloc_new_blocks
    return {
        "primaryMaxNumBlocks": now.max_blocks,
        "primaryFreeNumBlocks": now.free_blocks,
        "primaryUsedNumBlocks": now.used_blocks,
        "secondaryMaxNumBlocks": 0,
        "secondaryFreeNumBlocks": 0,
        "secondaryUsedNumBlocks": 0,
        "iterAllocTotalBlocks": now.alloc_total_blocks - before.alloc_total_blocks,
        "iterAllocNewBlocks": new,
        "iterReusedBlocks": reused,
        "iterFullReusedBlocks": reused,
        "iterPartialReusedBlocks": 0,
        "iterMissedBlocks": missed,
        "iterCacheHitRate": reused / (reused + missed) if reused + missed else 0.0,
        "iterGenAllocBlocks": max(0, new - missed),
        "iterOnboardBlocks": 0,
        "iterOnboardBytes": 0,
        "iterOffloadBlocks": 0,
        "iterOffloadBytes": 0,
        "iterIntraDeviceCopyBlocks": 0,
        "iterIntraDeviceCopyBytes": 0,
    }
