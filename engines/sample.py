"""What a server says about itself while it runs, in the words common to all engines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

NAN = math.nan


@dataclass(frozen=True, slots=True)
class EngineSample:
    """What a server says about itself at one moment, in the words common to all engines. NaN: it does not say.

    Counters (`*_total`) grow since the server's start; everything else is a gauge.
    """

    running: float = NAN
    waiting: float = NAN
    paused: float = NAN
    scheduled: float = NAN
    context_requests: float = NAN
    generation_requests: float = NAN
    max_batch_size: float = NAN
    kv_used_ratio: float = NAN
    kv_capacity_tokens: float = NAN
    kv_hit_ratio: float = NAN
    kv_host_used_ratio: float = NAN
    iteration_ms: float = NAN
    gpu_step_ms: float = NAN
    context_tokens: float = NAN
    accepted_per_step: float = NAN
    queue_ms: float = NAN
    prompt_tokens_total: float = NAN
    output_tokens_total: float = NAN
    requests_total: float = NAN
    preemptions_total: float = NAN
    iterations_total: float = NAN
    lost_records_total: float = NAN
    prefill_ms: float = NAN
    decode_ms: float = NAN


class MetricsSource(Protocol):
    """Reads one server's metrics; exactly one exists per server, since some servers forget what was read."""

    async def poll(self) -> Sequence[tuple[int, EngineSample]]:
        """New samples since the last call, each with the CLOCK_MONOTONIC time in ns it belongs to, oldest first.

        Raises:
            EngineError: If the answer is not what this server's metrics look like.
        """
        ...
