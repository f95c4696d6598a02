"""From ``vllm serve``'s options to the simulated engine's settings, with vLLM's way to size the KV cache.

vLLM's memory share is of the card's total memory and covers weights, activations and KV cache (contract others.md 1.3);
TensorRT-LLM's is of what is free after loading. Here it becomes a number of KV blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engines.models import Checkpoint, Precision
from engines.simulated.model import CapacityPolicy, CudaGraphs, EngineConfig
from engines.simulated.model.memory import GIB, activation_bytes, fixed_bytes
from engines.simulated.start import StartError, print_error
from engines.simulated.vllm import failure_texts
from engines.simulated.vllm.start_log import engine_failed

if TYPE_CHECKING:
    from engines.gpu.hardware import GpuSpec
    from engines.simulated.vllm.command_line import ServeCommand

_DEFAULT_BUDGETS: Final = ((160.0, 1024, 16384), (70.0, 1024, 8192), (0.0, 256, 2048))
"""Memory of the card in GiB from which ``max_num_seqs`` and ``max_num_batched_tokens`` hold (contract others.md 1.3)."""

_KV_PRECISION: Final = {"auto": None, "nvfp4": Precision.NVFP4, "bfloat16": Precision.BF16, "float16": Precision.BF16}
"""KV types; everything else is 8 bit."""

_FP8: Final = frozenset({"fp8", "fp8_per_tensor", "fp8_per_block"})


class RefusedError(StartError):
    """vLLM refuses these options; the message is what it prints.

    Attributes:
        in_engine: whether the engine's process finds out, after loading; else the front end does, at once.
    """

    def __init__(self, text: str, *, in_engine: bool = False) -> None:
        super().__init__(text)
        self.in_engine = in_engine

    def tell(self) -> None:
        """Print it where vLLM does: in the engine's log, or at the end."""
        if self.in_engine:
            engine_failed(str(self))
        print_error(failure_texts.ENGINE_FAILED if self.in_engine else str(self))


@dataclass(frozen=True, slots=True)
class Settled:
    """What is in force once defaults are filled in.

    Attributes:
        config: settings of the simulated engine; its KV cache is not sized yet.
        checkpoint: the model, quantised as asked.
        max_model_len: longest prompt plus output.
    """

    config: EngineConfig
    checkpoint: Checkpoint
    max_model_len: int


def settle(command: ServeCommand, checkpoint: Checkpoint, gpu: GpuSpec, gpu_count: int) -> Settled:
    """Fill in defaults and check what vLLM's front end checks.

    Raises:
        RefusedError: the front end refuses it.
    """
    if command.quantization in _FP8 and checkpoint.weight_precision is Precision.BF16:
        checkpoint = Checkpoint(checkpoint.shape, Precision.FP8, checkpoint.kv_precision)
    shape = checkpoint.shape
    max_model_len = command.max_model_len or shape.max_position_embeddings
    if max_model_len > shape.max_position_embeddings:
        raise RefusedError(failure_texts.context_too_long(max_model_len, shape.max_position_embeddings))
    default_seqs, default_budget = next(
        (seqs, budget) for at_least, seqs, budget in _DEFAULT_BUDGETS if gpu.hbm_bytes / GIB >= at_least
    )
    unchunked = max_model_len if not command.enable_chunked_prefill else 0
    budget = command.max_num_batched_tokens or max(default_budget, unchunked)
    seqs = command.max_num_seqs or min(default_seqs, budget)
    if budget < unchunked:
        raise RefusedError(failure_texts.budget_below_context(budget, max_model_len))
    if budget < seqs:
        raise RefusedError(failure_texts.budget_below_batch(budget, seqs))
    tp, pp = command.tensor_parallel_size, command.pipeline_parallel_size
    if tp * pp > gpu_count:
        raise RefusedError(failure_texts.world_too_large(tp * pp, gpu_count))
    if shape.attention_heads % tp:
        raise RefusedError(failure_texts.heads_not_divisible(shape.attention_heads, tp))
    config = EngineConfig(
        max_batch_size=seqs,
        max_num_tokens=budget,
        max_seq_len=max_model_len,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        enable_chunked_prefill=command.enable_chunked_prefill,
        capacity_policy=CapacityPolicy.MAX_UTILIZATION,
        cuda_graphs=None if command.enforce_eager else _graphs(command, seqs),
        overlap_scheduler=command.async_scheduling,
        stream_interval=max(1, command.stream_interval),
        free_gpu_memory_fraction=1.0,
        kv_precision=_KV_PRECISION.get(command.kv_cache_dtype, Precision.FP8),
        tokens_per_block=command.block_size,
        enable_block_reuse=command.enable_prefix_caching,
    )
    return Settled(config, checkpoint, max_model_len)


def _graphs(command: ServeCommand, seqs: int) -> CudaGraphs:
    """Return the captured sizes: 1, 2, 4, then steps of 8 and of 16 up to twice the batch, at most 512 (captured)."""
    sizes = command.cudagraph_capture_sizes
    if not sizes:
        largest = command.max_cudagraph_capture_size or min(2 * seqs, 512)
        sizes = tuple(size for size in (1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)) if size <= largest)
    return CudaGraphs(max(sizes), enable_padding=True, batch_sizes=sizes)


def kv_budget_tokens(command: ServeCommand, settled: Settled, gpu: GpuSpec) -> tuple[int, float]:
    """Return the tokens the KV cache shall hold and the bytes it takes on one GPU.

    Raises:
        RefusedError: memory is too small, as the engine's process says it.
    """
    config, checkpoint = settled.config, settled.checkpoint
    shape, total = checkpoint.shape, float(gpu.hbm_bytes)
    fixed = float(fixed_bytes(config))
    wanted = command.gpu_memory_utilization * total
    if wanted > total - fixed / 2:
        raise RefusedError(
            failure_texts.little_free_memory(total - fixed / 2, total, command.gpu_memory_utilization), in_engine=True
        )
    precision = config.kv_precision or checkpoint.kv_precision
    replicas = max(1.0, config.tensor_parallel_size / shape.kv_heads)
    token_bytes = shape.kv_bytes_per_token(precision) * replicas / config.world_size
    weights = shape.weight_bytes(checkpoint.weight_precision) / config.world_size
    available = wanted - fixed - weights - activation_bytes(shape, config)
    if command.kv_cache_memory_bytes:
        available = float(command.kv_cache_memory_bytes)
    blocks = int(available // (token_bytes * config.tokens_per_block))
    if blocks < 1:
        raise RefusedError(failure_texts.NO_KV_MEMORY, in_engine=True)
    if command.num_gpu_blocks_override:
        blocks = command.num_gpu_blocks_override
        available = blocks * token_bytes * config.tokens_per_block
    tokens = blocks * config.tokens_per_block
    if tokens < settled.max_model_len:
        needed = settled.max_model_len * token_bytes
        raise RefusedError(
            failure_texts.context_beyond_kv(settled.max_model_len, needed, available, tokens), in_engine=True
        )
    return tokens, available
