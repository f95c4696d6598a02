"""Small engines to test with."""

from __future__ import annotations

from engines.gpu.hardware import GPUS
from engines.models import Checkpoint, ModelShape, load_checkpoint
from engines.simulated.model import CudaGraphs, EngineConfig, GenerationRequest, Iteration, Simulation

TINY = Checkpoint(ModelShape("tiny", 4, 256, 704, 8, 4, 32, 1000, 4096))


def tiny_config(**changes: object) -> EngineConfig:
    """Settings of a tiny engine with no noise and a KV cache of 64 blocks of 16 tokens."""
    defaults: dict[str, object] = {
        "max_batch_size": 8,
        "max_num_tokens": 256,
        "tokens_per_block": 16,
        "kv_max_tokens": 1024,
        "noise_ratio": 0.0,
        "cuda_graphs": CudaGraphs(8, enable_padding=True),
    }
    return EngineConfig(**{**defaults, **changes})  # type: ignore[arg-type]  # keyword arguments of many types


def tiny_simulation(seed: int = 0, **changes: object) -> Simulation:
    """Build a tiny engine."""
    return Simulation(tiny_config(**changes), TINY, GPUS["h200"], gpu_count=8, seed=seed)


def llama_70b(**changes: object) -> Simulation:
    """Build the demo's engine: Llama 3.3 70B in FP8 on four H100."""
    defaults: dict[str, object] = {"max_seq_len": 8192, "tensor_parallel_size": 4, "noise_ratio": 0.0}
    config = EngineConfig(**{**defaults, **changes})  # type: ignore[arg-type]
    return Simulation(config, load_checkpoint("llama-3.3-70b-fp8"), GPUS["h100-sxm"], gpu_count=4)


def run_to_end(simulation: Simulation) -> list[Iteration]:
    """Step until nothing is left."""
    iterations: list[Iteration] = []
    while simulation.has_work:
        iterations.append(simulation.step())
    return iterations


def request(prompt_tokens: int, max_tokens: int = 4, hashes: tuple[int, ...] = ()) -> GenerationRequest:
    """Build a request that generates exactly ``max_tokens``."""
    return GenerationRequest(prompt_tokens, max_tokens, block_hashes=hashes)
