"""The engine itself: requests in, iterations and tokens out, in virtual time.

No input or output, no clock, no threads: the HTTP server paces it in real time and benchmarks run it as fast as Python
can. Two simulations with the same arguments and the same calls give the same numbers.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import TYPE_CHECKING, Final

from engines.simulated.model.config import EngineConfig, SimulationError
from engines.simulated.model.iteration import Iteration
from engines.simulated.model.kv_pool import KvPool, KvSnapshot
from engines.simulated.model.memory import MemoryPlan, plan_memory
from engines.simulated.model.requests import FinishReason, GenerationRequest, RequestState
from engines.simulated.model.scheduler import MicroBatch, Scheduler
from engines.simulated.model.startup import StartupTimes, startup_times
from engines.simulated.model.step_cost import StepCost, StepCostModel

if TYPE_CHECKING:
    from engines.gpu.hardware import GpuSpec
    from engines.models import Checkpoint

_STALL_PROBABILITY: Final = 0.0015
_STALL_MS: Final = (2.0, 9.0)
"""Now and then a step waits for the garbage collector or the operating system."""

_NATURAL_OUTPUT_TOKENS: Final = 300.0
_NATURAL_OUTPUT_SIGMA: Final = 0.6
"""Median and log-normal spread of an answer that may end by itself; the median is half of a small ``max_tokens``."""


class PromptTooLongError(SimulationError):
    """A prompt cannot be served by this configuration."""


class Simulation:
    """A continuous-batching engine on pretend GPUs."""

    def __init__(
        self, config: EngineConfig, checkpoint: Checkpoint, gpu: GpuSpec, *, gpu_count: int = 1, seed: int = 0
    ) -> None:
        """Lay out memory and get ready for requests.

        Args:
            config: the engine's settings.
            checkpoint: the model and its precision.
            gpu: type of every GPU.
            gpu_count: GPUs of the host.
            seed: seed of the noise and of the output lengths.

        Raises:
            ConfigurationError: the settings contradict the model or the GPUs.
            OutOfGpuMemoryError: something does not fit.
        """
        self.config = config
        self.checkpoint = checkpoint
        self.gpu = gpu
        self.plan: MemoryPlan = plan_memory(config, checkpoint, gpu, gpu_count)
        self.startup: StartupTimes = startup_times(config, self.plan)
        self.now_ms = 0.0
        self._pool = KvPool(self.plan.kv_blocks, config.tokens_per_block, config.enable_block_reuse)
        self._scheduler = Scheduler(config, self._pool)
        self._costs = StepCostModel(config, checkpoint, gpu, self.plan.graph_sizes)
        self._noise = random.Random(seed)  # noqa: S311  # reproducible noise, not a secret
        self._lengths = random.Random(seed ^ 0x5EED)  # noqa: S311
        self._pipeline: deque[tuple[MicroBatch, StepCost]] = deque()
        self._cancelled: set[int] = set()
        self._next_id = 1
        self._next_index = 0
        self._previous_start_ms = 0.0
        self._previous_end_ms = -1.0

    @property
    def has_work(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._scheduler.active or self._scheduler.waiting)

    @property
    def unfinished_requests(self) -> int:
        """Requests submitted and neither finished nor aborted."""
        return len(self._scheduler.active) + len(self._scheduler.waiting) - len(self._cancelled)

    @property
    def running_requests(self) -> int:
        """Requests that hold KV cache."""
        return len(self._scheduler.active)

    @property
    def waiting_requests(self) -> int:
        """Requests that wait for their first iteration, or again after an eviction."""
        return len(self._scheduler.waiting)

    @property
    def kv(self) -> KvSnapshot:
        """The KV pool now."""
        return self._pool.snapshot()

    def check(self, prompt_tokens: int) -> None:
        """Check a prompt's length.

        Raises:
            PromptTooLongError: too long for ``max_seq_len``, or for the token budget without chunked prefill; the
                message is the server's (contract section 8.2).
        """
        if prompt_tokens >= self.plan.max_seq_len:
            raise PromptTooLongError(
                f"The sum of prompt length ({prompt_tokens}) and default max_tokens "
                f"({self.plan.max_seq_len - prompt_tokens}) exceeds max_seq_len ({self.plan.max_seq_len})"
            )
        if prompt_tokens > self.config.max_num_tokens and not self.config.enable_chunked_prefill:
            raise PromptTooLongError(
                f"The sum of prompt length ({prompt_tokens}.0), query length (0) should not exceed "
                f"max_num_tokens ({self.config.max_num_tokens})"
            )

    def submit(self, request: GenerationRequest, arrival_ms: float | None = None) -> RequestState:
        """Queue a request; ``max_tokens`` above the room in ``max_seq_len`` is lowered, as the server does.

        Args:
            request: what is asked.
            arrival_ms: virtual time at which it came, which may lie inside the iteration that ``step`` has just
                computed; None for the present virtual time.

        Raises:
            PromptTooLongError: the prompt cannot be served.
        """
        self.check(request.prompt_tokens)
        room = self.plan.max_seq_len - request.prompt_tokens
        if request.max_tokens > room:
            request = GenerationRequest(
                request.prompt_tokens, room, request.ignore_eos, request.min_tokens, request.block_hashes
            )
        arrived = self.now_ms if arrival_ms is None else min(arrival_ms, self.now_ms)
        state = RequestState(self._next_id, request, arrived, self._target_tokens(request))
        self._next_id += 1
        self._scheduler.add(state)
        return state

    def _target_tokens(self, request: GenerationRequest) -> int:
        if request.ignore_eos:
            return request.max_tokens
        median = max(1.0, min(_NATURAL_OUTPUT_TOKENS, request.max_tokens / 2))
        natural = round(self._lengths.lognormvariate(math.log(median), _NATURAL_OUTPUT_SIGMA))
        return max(1, min(max(natural, request.min_tokens), request.max_tokens))

    def abort(self, state: RequestState) -> None:
        """Cancel a request; one in a pipeline stage leaves when the stage is done. Finished ones are left alone."""
        if state.finish_reason is not None:
            return
        state.finish_reason = FinishReason.CANCELLED
        if state.in_flight:
            self._cancelled.add(state.id)
        else:
            self._scheduler.remove(state)

    def advance_to(self, now_ms: float) -> None:
        """Let idle time pass; time never runs backwards."""
        self.now_ms = max(self.now_ms, now_ms)

    def step(self) -> Iteration:
        """Run one iteration and move the virtual time to its end.

        Raises:
            SimulationError: there is nothing to do; look at ``has_work`` first.
        """
        if not self.has_work:
            raise SimulationError("step() without an unfinished request: submit one, or look at has_work")
        start_ms = self.now_ms
        batch = self._scheduler.schedule(self._known_by_ms(start_ms))
        cost = self._costs.price(batch)
        self._launch(batch, start_ms)
        stages = self.config.pipeline_parallel_size
        self._pipeline.append((batch, cost))
        slowest = max(stage.duration_ms for _, stage in self._pipeline)
        duration_ms = self._noisy(slowest)
        self.now_ms = self._previous_end_ms = end_ms = start_ms + duration_ms
        emitted: tuple[RequestState, ...] = ()
        completed: tuple[RequestState, ...] = ()
        if len(self._pipeline) == stages:
            emitted, completed = self._land(self._pipeline.popleft()[0], end_ms)
        index = self._next_index
        self._next_index += 1
        return self._record(batch, cost, index, start_ms, duration_ms, emitted, completed)

    def _known_by_ms(self, start_ms: float) -> float:
        """Return until when a request must have come to be in the iteration that begins now.

        With the overlap scheduler a batch is put together while the one before it runs, so that what arrives during that
        iteration waits for the next but one. This keeps the waves of a closed loop together.
        """
        previous_ms, self._previous_start_ms = self._previous_start_ms, start_ms
        back_to_back = self._previous_end_ms == start_ms
        return previous_ms if self.config.overlap_scheduler and back_to_back else start_ms

    def _noisy(self, duration_ms: float) -> float:
        noise = self.config.noise_ratio
        if not noise:
            return duration_ms
        duration_ms *= max(0.5, self._noise.gauss(1.0, noise))
        if self._noise.random() < _STALL_PROBABILITY:
            duration_ms += self._noise.uniform(*_STALL_MS)
        return duration_ms

    def _launch(self, batch: MicroBatch, start_ms: float) -> None:
        index = self._next_index
        for state in batch.newly_active:
            state.first_scheduled_ms = start_ms
            state.first_iteration = index
        for state in batch.decoding:
            state.in_flight = True
            state.last_iteration = index
        for state, tokens in batch.prefilling:
            state.in_flight = True
            state.last_iteration = index
            state.prefilled_tokens += tokens

    def _land(self, batch: MicroBatch, end_ms: float) -> tuple[tuple[RequestState, ...], tuple[RequestState, ...]]:
        """Give a finished micro-batch's requests their tokens; return those with a token and those that ended."""
        landed = list(batch.decoding)
        for state, _ in batch.prefilling:
            if state.prefilled_tokens >= state.context_tokens:
                state.decoding = True
                self._pool.publish(state)
                landed.append(state)
            else:
                state.in_flight = False
                self._drop_if_cancelled(state)
        emitted: list[RequestState] = []
        completed: list[RequestState] = []
        for state in landed:
            state.in_flight = False
            if state.finish_reason is not None:
                self._drop_if_cancelled(state)
                continue
            state.generated_tokens = generated = state.generated_tokens + 1
            state.last_token_ms = end_ms
            if generated == 1:
                state.first_token_ms = end_ms
            if generated >= state.target_tokens:
                self._finish(state)
                completed.append(state)
            emitted.append(state)
        return tuple(emitted), tuple(completed)

    def _drop_if_cancelled(self, state: RequestState) -> None:
        if state.id in self._cancelled:
            self._cancelled.discard(state.id)
            self._scheduler.remove(state)

    def _finish(self, state: RequestState) -> None:
        full = state.generated_tokens >= state.request.max_tokens
        state.finish_reason = FinishReason.LENGTH if full else FinishReason.STOP
        self._scheduler.remove(state)

    def _record(
        self,
        batch: MicroBatch,
        cost: StepCost,
        index: int,
        start_ms: float,
        duration_ms: float,
        emitted: tuple[RequestState, ...],
        completed: tuple[RequestState, ...],
    ) -> Iteration:
        unfinished = len(self._scheduler.active) + len(self._scheduler.waiting)
        ceiling = self.config.max_batch_size * self.config.pipeline_parallel_size
        waiting = self._scheduler.waiting
        return Iteration(
            index=index,
            micro_batch_id=index % self.config.pipeline_parallel_size,
            start_ms=start_ms,
            duration_ms=duration_ms,
            cost=cost,
            emitted=emitted,
            completed=completed,
            context_requests=len(batch.prefilling),
            generation_requests=len(batch.decoding),
            paused_requests=len(batch.paused),
            paused_kv_tokens=sum(state.context_tokens for state in batch.paused),
            context_tokens=batch.context_tokens,
            context_kv_tokens=batch.context_kv_tokens,
            generation_kv_tokens=batch.generation_kv_tokens,
            new_active_requests=len(batch.newly_active),
            new_active_queue_ms=sum(start_ms - state.arrival_ms for state in batch.newly_active),
            active_requests=min(unfinished + len(completed), ceiling),
            queued_requests=max(0, unfinished + len(completed) - ceiling),
            queued_context_tokens=sum(state.context_tokens for state in waiting) if waiting else 0,
            kv=self._pool.snapshot(),
        )
