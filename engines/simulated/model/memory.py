"""Where each GPU's memory goes, and how much of it becomes KV cache.

The order is the real server's (contract section 8.1): weights, a dummy forward of ``max_num_tokens``, CUDA graphs, the KV
pool as a fraction of what is then free, and last the executor's own buffers. Each can be the one that does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from engines.simulated.model.config import ConfigurationError, EngineConfig, SimulationError

if TYPE_CHECKING:
    from engines.gpu.hardware import GpuSpec
    from engines.models import Checkpoint, ModelShape, Precision

_CONTEXT_BYTES: Final = int(1.1e9)
"""CUDA context, cuBLAS workspaces and the Python process's own allocations on each GPU."""

_NCCL_BYTES: Final = int(0.9e9)
"""Communicator and all-reduce workspaces on each GPU when there is more than one."""

_GRAPH_BYTES_PER_LAYER: Final = 0.55e6
"""One captured graph's nodes and static buffers, for each layer on the GPU (contract 5.4: up to 200 MB a graph)."""

_EXECUTOR_BYTES: Final = int(0.45e9)
"""Page tables, sampler state and pinned copies that are made after the KV pool, without the batch-sized part."""

GIB: Final = float(1 << 30)
"""Bytes in one GiB."""


class Component(StrEnum):
    """Parts of an executor in the words of the server's out-of-memory text (contract section 8.1)."""

    MODEL = "Model"
    INITIAL_KV_CACHE = "Initial KV cache (temporary for KV cache size estimation)"
    KV_CACHE = "KV cache"
    EXTRA_RESOURCES = "Additional executor resources (temporary for KV cache size estimation)"


@dataclass(frozen=True, slots=True)
class ComponentMemory:
    """Free memory of one GPU around the creation of one component, in bytes."""

    component: Component
    free_before_bytes: float
    free_after_bytes: float


class OutOfGpuMemoryError(SimulationError):
    """A component of the executor does not fit.

    Attributes:
        component: what could not be created.
        total_bytes: memory of one GPU.
        free_bytes: what was free before the attempt.
        created: components that did fit, in order.
    """

    def __init__(
        self, component: Component, total_bytes: float, free_bytes: float, created: tuple[ComponentMemory, ...]
    ) -> None:
        super().__init__(f"{component}: {free_bytes / GIB:.2f} GiB free on each GPU is not enough")
        self.component = component
        self.total_bytes = total_bytes
        self.free_bytes = free_bytes
        self.created = created


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What lies where on each GPU after start, and what the KV cache can hold.

    Attributes:
        weight_bytes: weights on one GPU.
        activation_bytes: peak of a forward of ``max_num_tokens`` on one GPU.
        graph_bytes: CUDA graphs on one GPU.
        kv_bytes: KV pool on one GPU.
        used_bytes: memory in use on one GPU once ready.
        kv_blocks: capacity of the KV pool in blocks.
        kv_capacity_tokens: the same in tokens.
        max_seq_len: longest sequence in force: the configured one, lowered to what the pool holds.
        max_seq_len_lowered_from: what it was before, None when it was kept.
        graph_sizes: captured decode batch sizes.
        created: free memory around each component, in order of creation.
    """

    weight_bytes: float
    activation_bytes: float
    graph_bytes: float
    kv_bytes: float
    used_bytes: float
    kv_blocks: int
    kv_capacity_tokens: int
    max_seq_len: int
    max_seq_len_lowered_from: int | None
    graph_sizes: tuple[int, ...]
    created: tuple[ComponentMemory, ...]


def activation_bytes(shape: ModelShape, config: EngineConfig) -> float:
    """Return the peak of one GPU's temporary memory in a forward pass of a full token budget, with its logits."""
    widest = 2 * shape.intermediate_size * shape.experts_per_token / config.tensor_parallel_size
    attention = (shape.attention_heads + 2 * shape.kv_heads) * shape.head_dim / config.tensor_parallel_size
    per_token = 2.0 * (3 * shape.hidden_size + attention + widest)
    logits_rows = min(config.max_batch_size, config.max_num_tokens)
    logits = logits_rows * shape.vocab_size * 4.0 / config.tensor_parallel_size
    return 1.25 * config.max_num_tokens * per_token + logits


def fixed_bytes(config: EngineConfig) -> int:
    """Return what one GPU loses before anything of the model is there: the context, and workspaces to communicate."""
    return _CONTEXT_BYTES + (_NCCL_BYTES if config.world_size > 1 else 0)


def validate_parallelism(config: EngineConfig, shape: ModelShape, gpu_count: int) -> None:
    """Check the parallel layout against GPUs, heads and layers.

    Raises:
        ConfigurationError: it cannot be built.
    """
    tp, pp = config.tensor_parallel_size, config.pipeline_parallel_size
    if config.world_size > gpu_count:
        raise ConfigurationError(
            f"world_size {config.world_size} (tensor_parallel_size {tp} x pipeline_parallel_size {pp}) is greater "
            f"than the {gpu_count} GPUs of this node"
        )
    if shape.attention_heads % tp:
        raise ConfigurationError(
            f"num_attention_heads ({shape.attention_heads}) must be divisible by tensor_parallel_size ({tp})"
        )
    if pp > shape.layers:
        raise ConfigurationError(f"pipeline_parallel_size ({pp}) is greater than the {shape.layers} layers")


class _Ledger:
    """Takes memory component by component and remembers what was free around each."""

    def __init__(self, total_bytes: float) -> None:
        self.total_bytes = total_bytes
        self.free_bytes = total_bytes
        self.created: list[ComponentMemory] = []

    def take(self, component: Component, size_bytes: float) -> None:
        before = self.free_bytes
        if size_bytes > before:
            raise OutOfGpuMemoryError(component, self.total_bytes, before, tuple(self.created))
        self.free_bytes = before - size_bytes
        self.created.append(ComponentMemory(component, before, self.free_bytes))


def plan_memory(config: EngineConfig, checkpoint: Checkpoint, gpu: GpuSpec, gpu_count: int) -> MemoryPlan:
    """Lay out one GPU's memory as the server does at start.

    Raises:
        ConfigurationError: the parallel layout cannot be built, or the KV pool cannot hold one block.
        OutOfGpuMemoryError: a component does not fit.
    """
    shape = checkpoint.shape
    validate_parallelism(config, shape, gpu_count)
    ledger = _Ledger(float(gpu.hbm_bytes))
    ledger.free_bytes -= fixed_bytes(config)

    weights = shape.weight_bytes(checkpoint.weight_precision) / config.world_size
    ledger.take(Component.MODEL, weights)
    activations = activation_bytes(shape, config)
    ledger.take(Component.INITIAL_KV_CACHE, activations)
    graph_sizes = config.cuda_graphs.captured_sizes(config.max_batch_size) if config.cuda_graphs else ()
    graphs = len(graph_sizes) * _GRAPH_BYTES_PER_LAYER * shape.layers / config.pipeline_parallel_size
    ledger.take(Component.EXTRA_RESOURCES, graphs)

    kv_bytes, blocks = _kv_pool(config, checkpoint, ledger.free_bytes)
    if blocks < 1:
        raise OutOfGpuMemoryError(Component.KV_CACHE, ledger.total_bytes, ledger.free_bytes, tuple(ledger.created))
    ledger.take(Component.KV_CACHE, kv_bytes)
    sampler = config.max_batch_size * shape.vocab_size * 0.5 / config.tensor_parallel_size
    ledger.take(Component.EXTRA_RESOURCES, _EXECUTOR_BYTES + sampler)

    capacity = blocks * config.tokens_per_block
    wanted = config.max_seq_len or shape.max_position_embeddings
    in_force = min(wanted, capacity)
    return MemoryPlan(
        weight_bytes=weights,
        activation_bytes=activations,
        graph_bytes=graphs,
        kv_bytes=kv_bytes,
        used_bytes=ledger.total_bytes - ledger.free_bytes,
        kv_blocks=blocks,
        kv_capacity_tokens=capacity,
        max_seq_len=in_force,
        max_seq_len_lowered_from=wanted if in_force < wanted else None,
        graph_sizes=graph_sizes,
        created=tuple(ledger.created),
    )


def _kv_pool(config: EngineConfig, checkpoint: Checkpoint, free_bytes: float) -> tuple[float, int]:
    """Return bytes on one GPU and blocks of the KV pool for this much free memory."""
    shape = checkpoint.shape
    precision = kv_precision(config, checkpoint)
    replicas = max(1.0, config.tensor_parallel_size / shape.kv_heads)  # heads are copied when tp exceeds them
    block_bytes = shape.kv_bytes_per_token(precision) * config.tokens_per_block * replicas / config.world_size
    blocks = int(free_bytes * config.free_gpu_memory_fraction // block_bytes)
    if config.kv_max_tokens is not None:
        blocks = min(blocks, -(-config.kv_max_tokens // config.tokens_per_block))
    return blocks * block_bytes, blocks


def kv_precision(config: EngineConfig, checkpoint: Checkpoint) -> Precision:
    """Return the KV element type in force: the configured one, else the checkpoint's."""
    return config.kv_precision or checkpoint.kv_precision
