"""From ``LlmArgs`` to the simulated engine's own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engines.models import Checkpoint, Precision
from engines.simulated.model import CapacityPolicy, CudaGraphs, EngineConfig

if TYPE_CHECKING:
    from engines.simulated.trtllm.arguments import TorchLlmArgs

_KV_PRECISION: Final[dict[str, Precision | None]] = {
    "auto": None,
    "fp8": Precision.FP8,
    "fp8_ds_mla": Precision.FP8,
    "nvfp4": Precision.NVFP4,
    "float16": Precision.BF16,
    "bfloat16": Precision.BF16,
}
"""KV types by their YAML name; anything wider counts as 16 bit."""


def engine_config(arguments: TorchLlmArgs, checkpoint: Checkpoint) -> EngineConfig:
    """Return the engine settings these arguments mean for this checkpoint."""
    kv = arguments.kv_cache_config
    graphs = arguments.cuda_graph_config
    kv_max_tokens = kv.max_tokens
    kv_precision = _KV_PRECISION.get(kv.dtype, Precision.BF16)
    if kv.max_gpu_total_bytes:
        world = arguments.tensor_parallel_size * arguments.pipeline_parallel_size
        per_token = checkpoint.shape.kv_bytes_per_token(kv_precision or checkpoint.kv_precision) / world
        by_bytes = max(1, int(kv.max_gpu_total_bytes / per_token))
        kv_max_tokens = by_bytes if kv_max_tokens is None else min(kv_max_tokens, by_bytes)
    return EngineConfig(
        max_batch_size=arguments.max_batch_size,
        max_num_tokens=arguments.max_num_tokens,
        max_seq_len=arguments.max_seq_len,
        tensor_parallel_size=arguments.tensor_parallel_size,
        pipeline_parallel_size=arguments.pipeline_parallel_size,
        enable_chunked_prefill=arguments.enable_chunked_prefill,
        capacity_policy=CapacityPolicy(arguments.scheduler_config.capacity_scheduler_policy),
        cuda_graphs=None
        if graphs is None
        else CudaGraphs(graphs.max_batch_size, graphs.enable_padding, tuple(graphs.batch_sizes or ())),
        overlap_scheduler=not arguments.disable_overlap_scheduler,
        stream_interval=arguments.stream_interval,
        free_gpu_memory_fraction=0.9 if kv.free_gpu_memory_fraction is None else kv.free_gpu_memory_fraction,
        kv_max_tokens=kv_max_tokens,
        kv_precision=kv_precision,
        tokens_per_block=kv.tokens_per_block,
        enable_block_reuse=kv.enable_block_reuse,
    )
