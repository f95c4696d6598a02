"""Which requests the next iteration holds: capacity first, then the batch and token budgets.

Decode comes first, then unfinished prefills, then new requests in order of arrival (contract sections 5.1 and 8.2).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.simulated.model.config import CapacityPolicy, EngineConfig

if TYPE_CHECKING:
    from engines.simulated.model.kv_pool import KvPool
    from engines.simulated.model.requests import RequestState


@dataclass(slots=True)
class MicroBatch:
    """What one pass through the model computes.

    Attributes:
        decoding: requests that get one token.
        prefilling: requests with the number of context tokens computed now.
        newly_active: requests scheduled for the first time.
        paused: requests evicted to make room.
        context_tokens: prefill tokens in all.
        context_kv_tokens: context of the prefilling requests that is in the cache already.
        context_pairs: query and key pairs of causal prefill attention.
        generation_kv_tokens: context length of the decoding requests in all.
    """

    decoding: list[RequestState] = field(default_factory=list)
    prefilling: list[tuple[RequestState, int]] = field(default_factory=list)
    newly_active: list[RequestState] = field(default_factory=list)
    paused: list[RequestState] = field(default_factory=list)
    context_tokens: int = 0
    context_kv_tokens: int = 0
    context_pairs: float = 0.0
    generation_kv_tokens: int = 0

    @property
    def requests(self) -> int:
        """Requests in the batch."""
        return len(self.decoding) + len(self.prefilling)


class Scheduler:
    """Holds every unfinished request and builds micro-batches from them."""

    def __init__(self, config: EngineConfig, pool: KvPool) -> None:
        self._config = config
        self._pool = pool
        self._stages = config.pipeline_parallel_size
        self._max_active = config.max_batch_size * self._stages
        self._reserves = config.capacity_policy is not CapacityPolicy.MAX_UTILIZATION
        self._reserved_blocks = 0
        self.waiting: deque[RequestState] = deque()
        self.active: dict[int, RequestState] = {}

    def add(self, state: RequestState) -> None:
        """Queue a request."""
        self.waiting.append(state)

    def remove(self, state: RequestState) -> None:
        """Forget a finished or cancelled request and free its blocks."""
        if self.active.pop(state.id, None) is None:
            self.waiting.remove(state)
            return
        self._give_back(state)

    def schedule(self, known_by_ms: float = math.inf) -> MicroBatch:
        """Build the next micro-batch; it is empty when nothing can run now.

        Args:
            known_by_ms: requests that arrived later are not admitted yet, unless there is nothing else to do.
        """
        batch = MicroBatch()
        limit = self._config.max_batch_size
        if self._stages > 1:
            limit = min(limit, -(-(len(self.active) + len(self.waiting)) // self._stages))
        self._schedule_decoding(batch, limit)
        budget = self._config.max_num_tokens - len(batch.decoding)
        budget = self._continue_prefills(batch, limit, budget)
        if batch.requests == 0:
            known_by_ms = math.inf
        self._admit(batch, limit, budget, known_by_ms)
        return batch

    def _schedule_decoding(self, batch: MicroBatch, limit: int) -> None:
        limit = min(limit, self._config.max_num_tokens)
        tokens_per_block = self._pool.tokens_per_block
        decoding = batch.decoding
        kv_tokens = 0
        for state in list(self.active.values()):
            if not state.decoding or state.in_flight:
                continue
            if len(decoding) == limit:
                break
            if state.id not in self.active:  # paused for a request before it
                continue
            context = state.request.prompt_tokens + state.generated_tokens
            held = len(state.shared_hashes) + state.private_blocks
            if held * tokens_per_block < context and not self._grow(state, batch):
                continue
            decoding.append(state)
            kv_tokens += context
        batch.generation_kv_tokens = kv_tokens

    def _grow(self, state: RequestState, batch: MicroBatch) -> bool:
        """Give a decoding request one more block, pausing the newest others while there is none."""
        while not self._pool.allocate(state, 1):
            victim = self._newest_pausable(batch)
            if victim is None:
                return False
            self._pause(victim, batch)
            if victim is state:
                return False
        if state.reserved_blocks:
            state.reserved_blocks -= 1
            self._reserved_blocks -= 1
        return True

    def _newest_pausable(self, batch: MicroBatch) -> RequestState | None:
        for state in reversed(self.active.values()):
            if not state.in_flight and state not in batch.decoding:
                return state
        return None

    def _pause(self, state: RequestState, batch: MicroBatch) -> None:
        """Evict a request; its prompt and what it generated are computed again later."""
        del self.active[state.id]
        self._give_back(state)
        state.decoding = False
        state.prefilled_tokens = 0
        state.context_tokens = state.sequence_tokens
        state.pauses += 1
        self.waiting.appendleft(state)
        batch.paused.append(state)

    def _give_back(self, state: RequestState) -> None:
        self._reserved_blocks -= state.reserved_blocks
        state.reserved_blocks = 0
        self._pool.release(state)

    def _continue_prefills(self, batch: MicroBatch, limit: int, budget: int) -> int:
        """Give unfinished chunked prefills their next chunk; return the budget that is left."""
        for state in self.active.values():
            if budget <= 0 or batch.requests >= limit:
                break
            if state.decoding or state.in_flight:
                continue
            budget -= self._add_chunk(state, batch, budget)
        return budget

    def _add_chunk(self, state: RequestState, batch: MicroBatch, budget: int) -> int:
        """Put as much of a prefill as fits into the batch; return the tokens taken."""
        remaining = state.context_tokens - state.prefilled_tokens
        tokens = remaining
        if tokens > budget:
            block = self._pool.tokens_per_block
            tokens = budget - budget % block if budget >= block else budget
        past = state.prefilled_tokens
        batch.prefilling.append((state, tokens))
        batch.context_tokens += tokens
        batch.context_kv_tokens += past
        batch.context_pairs += tokens * (past + tokens / 2)
        return tokens

    def _admit(self, batch: MicroBatch, limit: int, budget: int, known_by_ms: float) -> None:
        config = self._config
        if config.capacity_policy is CapacityPolicy.STATIC_BATCH and self.active:
            return
        chunked = config.enable_chunked_prefill
        while self.waiting and budget > 0 and batch.requests < limit and len(self.active) < self._max_active:
            state = self.waiting[0]
            if state.arrival_ms > known_by_ms:
                return
            hashes = state.request.block_hashes
            matched, held = self._pool.match(hashes, state.context_tokens)
            cached_tokens = len(matched) * self._pool.tokens_per_block
            if not chunked and state.context_tokens - cached_tokens > budget and batch.requests:
                return
            if not self._take_blocks(state, matched, held, len(hashes)):
                return
            self.waiting.popleft()
            self.active[state.id] = state
            state.prefilled_tokens = cached_tokens
            if state.first_scheduled_ms is None:
                state.cached_tokens = cached_tokens
                batch.newly_active.append(state)
            # A recomputed context may exceed the budget without chunking; it then has an iteration to itself.
            taken = self._add_chunk(state, batch, budget if chunked else max(budget, state.context_tokens))
            budget -= taken

    def _take_blocks(self, state: RequestState, matched: tuple[int, ...], held: int, looked_up: int) -> bool:
        """Allocate a context's blocks and reserve what the policy promises; False when there are too few."""
        now = self._pool.blocks_for(state.context_tokens) - len(matched)
        later = 0
        if self._reserves:
            whole = state.request.prompt_tokens + state.request.max_tokens
            later = max(0, self._pool.blocks_for(whole) - len(matched) - now)
        revived = len(matched) - held
        if now + later + revived > self._pool.free_blocks - self._reserved_blocks:
            return False
        self._pool.acquire(state, matched, looked_up)
        self._pool.allocate(state, now)
        state.reserved_blocks = later
        self._reserved_blocks += later
        return True
