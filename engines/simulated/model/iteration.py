"""What one iteration of the executor loop did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.simulated.model.kv_pool import KvSnapshot
    from engines.simulated.model.requests import RequestState
    from engines.simulated.model.step_cost import StepCost


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of the executor loop, as the server's statistics tell it (contract section 2.4).

    Attributes:
        index: number of the iteration; idle pipeline slots count as well.
        micro_batch_id: pipeline slot.
        start_ms: virtual time at which it was built.
        duration_ms: virtual time until the next one.
        cost: time and traffic of the batch on each GPU of the stage.
        emitted: requests that got a token when this iteration ended; each got exactly one.
        completed: those of them that finished.
        context_requests: requests in prefill.
        generation_requests: requests in decode.
        paused_requests: requests evicted to make room.
        paused_kv_tokens: context length they had.
        context_tokens: prefill tokens computed.
        context_kv_tokens: context of the prefilling requests that was in the cache already.
        generation_kv_tokens: context length of the decoding requests in all.
        new_active_requests: requests scheduled for the first time.
        new_active_queue_ms: sum of their waits.
        active_requests: unfinished requests admitted, up to the batch limit.
        queued_requests: unfinished requests beyond it.
        queued_context_tokens: prompt tokens of the requests never scheduled.
        kv: the KV pool after scheduling.
    """

    index: int
    micro_batch_id: int
    start_ms: float
    duration_ms: float
    cost: StepCost
    emitted: tuple[RequestState, ...]
    completed: tuple[RequestState, ...]
    context_requests: int
    generation_requests: int
    paused_requests: int
    paused_kv_tokens: int
    context_tokens: int
    context_kv_tokens: int
    generation_kv_tokens: int
    new_active_requests: int
    new_active_queue_ms: float
    active_requests: int
    queued_requests: int
    queued_context_tokens: int
    kv: KvSnapshot

    @property
    def scheduled_requests(self) -> int:
        """Requests in the batch; 0 when the pipeline only drained."""
        return self.context_requests + self.generation_requests

    @property
    def end_ms(self) -> float:
        """Virtual time at which its tokens appear."""
        return self.start_ms + self.duration_ms
