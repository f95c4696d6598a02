"""A closed loop against a simulation in virtual time: what a load generator would measure, without one."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.simulated.model.requests import GenerationRequest, RequestState

if TYPE_CHECKING:
    from engines.simulated.model.requests import BlockHashes
    from engines.simulated.model.simulation import Simulation


@dataclass(frozen=True, slots=True)
class VirtualLoad:
    """A closed loop.

    Attributes:
        concurrency: requests in flight.
        requests: requests in all.
        warmup_requests: requests that must finish before the window opens; earlier arrivals do not count.
        input_tokens: mean prompt length (ISL).
        output_tokens: mean output length (OSL).
        spread_ratio: lengths are uniform within this share of the mean, 0 for fixed lengths.
        overhead_ms: time outside the engine for each request: HTTP, tokenisation, the client.
        seed: seed of the lengths.
        cached_prompts: how many prompts, evenly spread, an earlier load has left in the KV cache.
    """

    concurrency: int
    requests: int
    input_tokens: int
    output_tokens: int
    warmup_requests: int = 0
    spread_ratio: float = 0.0
    overhead_ms: float = 0.0
    seed: int = 0
    cached_prompts: int = 0


@dataclass(frozen=True, slots=True)
class VirtualResult:
    """What the closed loop measured; percentiles are the nearest ranks.

    Attributes:
        output_tokens_per_s: output tokens from the opening of the window to the last token.
        requests_per_s: finished requests that arrived in the window, over the same time.
        ttft_p50_ms: median time to first token.
        ttft_p99_ms: its 99th percentile.
        tpot_p50_ms: median time per output token.
        tpot_p99_ms: its 99th percentile.
        itl_p99_ms: 99th percentile of the gaps between tokens.
        duration_s: virtual length of the window.
    """

    output_tokens_per_s: float
    requests_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    tpot_p50_ms: float
    tpot_p99_ms: float
    itl_p99_ms: float
    duration_s: float


def percentile(values: list[float], ratio: float) -> float:
    """Return the nearest-rank percentile, 0.0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(ratio * len(ordered)))]


def _draw(rng: random.Random, mean: int, spread_ratio: float) -> int:
    return max(1, round(mean * rng.uniform(1 - spread_ratio, 1 + spread_ratio)))


def _hashes(simulation: Simulation, index: int, prompt_tokens: int, load: VirtualLoad) -> BlockHashes:
    """Return the hashes of a prompt that was seen before; none for the others, which share nothing."""
    if index * load.cached_prompts % load.requests >= load.cached_prompts:
        return ()
    blocks = prompt_tokens // simulation.config.tokens_per_block
    return tuple(index << 20 | block for block in range(blocks))


def _fill_cache(simulation: Simulation, load: VirtualLoad) -> None:
    """Run the prompts that shall be found in the cache, one after the other."""
    for index in range(load.requests):
        hashes = _hashes(simulation, index, load.input_tokens, load)
        if not hashes:
            continue
        simulation.submit(GenerationRequest(load.input_tokens, 1, block_hashes=hashes))
        while simulation.has_work:
            simulation.step()


def run_virtual_load(simulation: Simulation, load: VirtualLoad) -> VirtualResult:
    """Drive a fresh simulation with a closed loop and return what a client would have seen.

    Raises:
        PromptTooLongError: the configuration refuses the prompts.
    """
    rng = random.Random(load.seed)  # noqa: S311  # reproducible lengths, not a secret
    shapes = [
        (
            _draw(rng, load.input_tokens, load.spread_ratio),
            _draw(rng, load.output_tokens, load.spread_ratio),
        )
        for _ in range(load.requests)
    ]
    shapes.reverse()
    _fill_cache(simulation, load)
    start_ms = simulation.now_ms
    arrivals = deque([start_ms + load.overhead_ms] * min(load.concurrency, load.requests))
    previous: dict[int, float] = {}
    gaps: list[float] = []
    done: list[RequestState] = []
    window_tokens = 0
    while arrivals or simulation.has_work:
        while arrivals and (arrivals[0] <= simulation.now_ms or not simulation.has_work):
            simulation.advance_to(arrivals.popleft())
            prompt, output = shapes.pop()
            hashes = _hashes(simulation, load.requests - len(shapes) - 1, prompt, load)
            simulation.submit(GenerationRequest(prompt, output, block_hashes=hashes))
        iteration = simulation.step()
        opened = len(done) >= load.warmup_requests
        window_tokens += len(iteration.emitted) if opened else 0
        for state in iteration.emitted:
            if opened and state.generated_tokens > 1:
                gaps.append(iteration.end_ms - previous[state.id])
            previous[state.id] = iteration.end_ms
        for state in iteration.completed:
            done.append(state)
            if len(done) == load.warmup_requests:
                start_ms = iteration.end_ms
            if len(shapes) > len(arrivals):
                arrivals.append(iteration.end_ms + load.overhead_ms)
    measured = [state for state in done if state.arrival_ms >= start_ms]
    return _summary(measured, gaps, window_tokens, load.overhead_ms, simulation.now_ms - start_ms)


def _summary(
    measured: list[RequestState],
    gaps: list[float],
    window_tokens: int,
    overhead_ms: float,
    duration_ms: float,
) -> VirtualResult:
    ttfts: list[float] = []
    tpots: list[float] = []
    for state in measured:
        first, last = state.first_token_ms or 0.0, state.last_token_ms or 0.0
        ttfts.append(first - state.arrival_ms + overhead_ms)
        if state.generated_tokens > 1:
            tpots.append((last - first) / (state.generated_tokens - 1))
    return VirtualResult(
        output_tokens_per_s=window_tokens / duration_ms * 1e3,
        requests_per_s=len(measured) / duration_ms * 1e3,
        ttft_p50_ms=percentile(ttfts, 0.5),
        ttft_p99_ms=percentile(ttfts, 0.99),
        tpot_p50_ms=percentile(tpots, 0.5),
        tpot_p99_ms=percentile(tpots, 0.99),
        itl_p99_ms=percentile(gaps, 0.99),
        duration_s=duration_ms / 1e3,
    )
