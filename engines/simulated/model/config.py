"""Settings of the simulated engine, free of any server's spelling."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.models import Precision


class SimulationError(Exception):
    """Something the simulated engine cannot do; the message says what and what to change."""


class ConfigurationError(SimulationError):
    """Settings contradict each other, the model or the GPUs."""


class CapacityPolicy(StrEnum):
    """Who may hold KV cache (contract section 5.1, ``capacity_scheduler_policy``)."""

    GUARANTEED_NO_EVICT = "GUARANTEED_NO_EVICT"
    MAX_UTILIZATION = "MAX_UTILIZATION"
    STATIC_BATCH = "STATIC_BATCH"


@dataclass(frozen=True, slots=True)
class CudaGraphs:
    """Which decode batches are captured as CUDA graphs (contract section 5.4).

    Attributes:
        max_batch_size: largest captured batch; 0 means the engine's default of 128.
        enable_padding: round a batch up to the next captured size instead of running it eagerly.
        batch_sizes: explicit sizes; empty means generated ones.
    """

    max_batch_size: int = 0
    enable_padding: bool = False
    batch_sizes: tuple[int, ...] = ()

    def captured_sizes(self, max_batch_size: int) -> tuple[int, ...]:
        """Return the sizes to capture, ascending and never above the engine's own batch limit."""
        sizes = (
            set(self.batch_sizes)
            if self.batch_sizes
            else _generated_sizes(self.max_batch_size or 128, self.enable_padding)
        )
        return tuple(sorted(size for size in sizes if 0 < size <= max_batch_size))


def _generated_sizes(largest: int, padded: bool) -> set[int]:
    if padded:
        sizes = {1, 2, 4, *range(8, 129, 8), *range(192, largest + 1, 64)}
    else:
        sizes = {*range(1, 32), 32, 64, 128}
        power = 256
        while power <= largest:
            sizes.add(power)
            power *= 2
    return {size for size in sizes if size <= largest} | {largest}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything that shapes the engine's behaviour, with TensorRT-LLM's defaults (contract section 5).

    Attributes:
        max_batch_size: most requests of one iteration.
        max_num_tokens: token budget of one iteration, prefill and decode together.
        max_seq_len: longest prompt plus output, None for the model's own limit.
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: groups of GPUs that hold consecutive layers.
        enable_chunked_prefill: whether a prompt may be split over iterations.
        capacity_policy: who may hold KV cache.
        cuda_graphs: captured decode batches, None to run all of them eagerly.
        overlap_scheduler: whether host work overlaps the GPU's previous step.
        stream_interval: iterations per streamed response.
        free_gpu_memory_fraction: share of the memory left after loading that becomes KV cache.
        kv_max_tokens: upper limit of the KV cache in tokens, None for none.
        kv_precision: KV element type, None for what the checkpoint asks for.
        tokens_per_block: KV block size.
        enable_block_reuse: whether shared prompt prefixes are computed once.
        noise_ratio: standard deviation of a step's duration relative to its mean.
    """

    max_batch_size: int = 2048
    max_num_tokens: int = 8192
    max_seq_len: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    enable_chunked_prefill: bool = False
    capacity_policy: CapacityPolicy = CapacityPolicy.GUARANTEED_NO_EVICT
    cuda_graphs: CudaGraphs | None = field(default_factory=CudaGraphs)
    overlap_scheduler: bool = True
    stream_interval: int = 1
    free_gpu_memory_fraction: float = 0.9
    kv_max_tokens: int | None = None
    kv_precision: Precision | None = None
    tokens_per_block: int = 32
    enable_block_reuse: bool = True
    noise_ratio: float = 0.015

    @property
    def world_size(self) -> int:
        """GPUs needed."""
        return self.tensor_parallel_size * self.pipeline_parallel_size
