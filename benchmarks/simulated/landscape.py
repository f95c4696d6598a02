"""How far the defaults are from the best on the demo's problem, found by random search in virtual time.

Llama 3.3 70B in FP8 on four H100 with a chat-like workload. The score of a configuration is the highest output rate at a
concurrency that still meets both SLOs. It is a property of the simulated engine, not of TensorRT-LLM.

Run: ``python -m benchmarks.simulated.landscape [configurations]``
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, replace

from engines.gpu.hardware import GPUS
from engines.models import Precision, load_checkpoint
from engines.simulated.model import (
    CapacityPolicy,
    CudaGraphs,
    EngineConfig,
    PromptTooLongError,
    Simulation,
    SimulationError,
)
from engines.simulated.model.virtual_load import VirtualLoad, VirtualResult, run_virtual_load

MODEL = "llama-3.3-70b-fp8"
GPU_COUNT = 4
TTFT_P99_LIMIT_MS = 500.0
TPOT_P99_LIMIT_MS = 40.0
INPUT_TOKENS = 1000
OUTPUT_TOKENS = 128
CONCURRENCIES = (4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128)
DEFAULT = EngineConfig(max_seq_len=8192, tensor_parallel_size=4)


@dataclass(frozen=True, slots=True)
class Score:
    """What a configuration reaches within the SLOs; zeros when it fails or never meets them."""

    output_tokens_per_s: float = 0.0
    concurrency: int = 0
    ttft_p99_ms: float = 0.0
    tpot_p99_ms: float = 0.0
    failure: str = ""


def measure(config: EngineConfig, concurrency: int) -> VirtualResult:
    """Run one level on a fresh server."""
    checkpoint = load_checkpoint(MODEL)
    simulation = Simulation(config, checkpoint, GPUS["h100-sxm"], gpu_count=GPU_COUNT, seed=concurrency)
    load = VirtualLoad(
        concurrency=concurrency,
        requests=max(160, concurrency * 6),
        input_tokens=INPUT_TOKENS,
        output_tokens=OUTPUT_TOKENS,
        warmup_requests=2 * concurrency,
        spread_ratio=0.3,
        overhead_ms=4.0,
    )
    return run_virtual_load(simulation, load)


def score(config: EngineConfig) -> Score:
    """Return the best level that meets both SLOs; levels rise until two in a row do not."""
    best = Score()
    misses = 0
    for concurrency in CONCURRENCIES:
        try:
            result = measure(config, concurrency)
        except PromptTooLongError:
            return Score(failure="refuses prompts")
        except SimulationError as error:
            return Score(failure=str(error))
        if result.ttft_p99_ms > TTFT_P99_LIMIT_MS or result.tpot_p99_ms > TPOT_P99_LIMIT_MS:
            misses += 1
            if misses == 2:
                break
            continue
        misses = 0
        if result.output_tokens_per_s > best.output_tokens_per_s:
            best = Score(result.output_tokens_per_s, concurrency, result.ttft_p99_ms, result.tpot_p99_ms)
    return best


def draw(rng: random.Random) -> EngineConfig:
    """Draw one configuration of the demo's search space."""
    tp, pp = rng.choice(((1, 1), (2, 1), (4, 1), (2, 2), (1, 4), (1, 2)))
    return replace(
        DEFAULT,
        max_batch_size=rng.choice((8, 16, 32, 64, 128, 256, 512, 1024, 2048)),
        max_num_tokens=rng.choice((512, 1024, 2048, 4096, 8192, 16384)),
        enable_chunked_prefill=rng.random() < 0.5,
        cuda_graphs=CudaGraphs(rng.choice((0, 16, 32, 64, 128, 256)), rng.random() < 0.5),
        free_gpu_memory_fraction=rng.choice((0.7, 0.8, 0.9, 0.95)),
        capacity_policy=rng.choice(tuple(CapacityPolicy)),
        kv_precision=rng.choice((None, Precision.FP8)),
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
    )


def main() -> None:
    """Print the default's score, the ten best and how many failed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 80
    rng = random.Random(7)
    configs = [draw(rng) for _ in range(count)]
    print(f"SLO: TTFT p99 {TTFT_P99_LIMIT_MS:.0f} ms, TPOT p99 {TPOT_P99_LIMIT_MS:.0f} ms")
    print("default", score(DEFAULT))
    scored = sorted(((score(config), config) for config in configs), key=lambda pair: -pair[0].output_tokens_per_s)
    failed = [entry for entry in scored if entry[0].failure]
    never = [entry for entry in scored if not entry[0].failure and not entry[0].concurrency]
    print(f"{count} drawn: {len(failed)} fail, {len(never)} never meet the SLOs")
    for reached, config in scored[:10]:
        print(
            f"{reached.output_tokens_per_s:7.0f} tok/s at {reached.concurrency:3} "
            f"TTFT p99 {reached.ttft_p99_ms:4.0f} TPOT p99 {reached.tpot_p99_ms:4.1f}  "
            f"tp{config.tensor_parallel_size} pp{config.pipeline_parallel_size} batch {config.max_batch_size} "
            f"tokens {config.max_num_tokens} chunked {config.enable_chunked_prefill} {config.cuda_graphs} "
            f"kv {config.kv_precision or 'auto'} {config.capacity_policy}"
        )
    for reason in sorted({entry[0].failure for entry in failed}):
        print("fails:", reason)


if __name__ == "__main__":
    main()
