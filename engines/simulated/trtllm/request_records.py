"""Timing of finished requests: ``/perf_metrics`` records and response fields, by version (contract section 4.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engines.simulated.model import RequestState

PERF_METRICS_HEADER = "X-TRTLLM-return-metrics"
"""Request header that asks a late 1.3 server for timing fields."""

PERF_METRICS_EVENT = b"trtllm.perf_metrics"
"""Name of the event that carries them in a stream, after ``[DONE]``."""


def perf_record(state: RequestState, clock_offset_s: float) -> dict[str, Any]:
    """Return one record of ``/perf_metrics``; times are seconds of a steady clock."""

    def clock(at_ms: float | None) -> float:
        return clock_offset_s + (at_ms or 0.0) / 1e3

    return {
        "request_id": state.id,
        "perf_metrics": {
            "first_iter": state.first_iteration,
            "last_iter": state.last_iteration,
            "timing_metrics": {
                "server_arrival_time": clock(state.arrival_ms),
                "arrival_time": clock(state.arrival_ms),
                "first_scheduled_time": clock(state.first_scheduled_ms),
                "first_token_time": clock(state.first_token_ms),
                "server_first_token_time": clock(state.first_token_ms),
                "last_token_time": clock(state.last_token_ms),
            },
            "kv_cache_metrics": {
                "num_total_allocated_blocks": state.allocated_new_blocks + state.reused_blocks,
                "num_new_allocated_blocks": state.allocated_new_blocks,
                "num_reused_blocks": state.reused_blocks,
                "num_missed_blocks": state.missed_blocks,
            },
        },
    }


def timing_fields(state: RequestState) -> dict[str, str]:
    """Return the response fields of late 1.3 servers."""
    arrival = state.arrival_ms
    queue_ms = (state.first_scheduled_ms or arrival) - arrival
    ttft_ms = (state.first_token_ms or arrival) - arrival
    e2e_ms = (state.last_token_ms or arrival) - arrival
    return {
        "Server-Timing": f"server_queue;dur={queue_ms:.3f}, server_ttft;dur={ttft_ms:.3f}, server_e2e;dur={e2e_ms:.3f}"
    }
