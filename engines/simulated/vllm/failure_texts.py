"""What a dying ``vllm serve`` prints.

Captured from 0.24.0: unknown flag, KV memory too small, context too long, tensor parallelism larger than the host. The other
texts follow upstream's sources (``vllm/config/scheduler.py``, ``vllm/v1/core/kv_cache_utils.py``, ``gpu_worker.py``).
"""

from __future__ import annotations

from engines.simulated.model.memory import GIB

ENGINE_FAILED = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
"""The last line of every failure after the engine's process has begun; it says nothing."""

NO_KV_MEMORY = (
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the "
    "engine (this flag also controls CPU memory reservation on the CPU backend, despite its name). See "
    "https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."
)


def validation_error(config: str, message: str) -> str:
    """Return pydantic's report of a refused configuration object."""
    return (
        f"pydantic_core._pydantic_core.ValidationError: 1 validation error for {config}\n"
        f"  Value error, {message} [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]\n"
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
    )


def context_too_long(asked: int, derived: int) -> str:
    """Return the text of a context beyond the model's own."""
    return validation_error(
        "ModelConfig",
        f"User-specified max_model_len ({asked}) is greater than the derived max_model_len "
        f"(max_position_embeddings={float(derived)} or model_max_length=None in model's config.json). To allow "
        "overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. VLLM_ALLOW_LONG_MAX_MODEL_LEN must be "
        "used with extreme caution. If the model uses relative position encoding (RoPE), positions exceeding "
        "derived_max_model_len lead to nan. If the model uses absolute position encoding, positions exceeding "
        "derived_max_model_len will cause a CUDA array out-of-bounds error.",
    )


def world_too_large(world_size: int, gpu_count: int) -> str:
    """Return the text of a parallel layout larger than the host."""
    return validation_error(
        "ParallelConfig",
        f"World size ({world_size}) is larger than the number of available GPUs ({gpu_count}) in this node. If this is "
        "intentional and you are using:\n- ray, set '--distributed-executor-backend ray'.\n"
        "- multiprocessing, set '--nnodes' appropriately.",
    )


def heads_not_divisible(heads: int, tensor_parallel_size: int) -> str:
    """Return the text of attention heads that cannot be shared evenly."""
    return validation_error(
        "VllmConfig",
        f"Total number of attention heads ({heads}) must be divisible by tensor parallel size ({tensor_parallel_size}).",
    )


def budget_below_context(budget: int, max_model_len: int) -> str:
    """Return the text of a token budget that cannot hold a prompt while prefill is not chunked."""
    return validation_error(
        "SchedulerConfig",
        f"max_num_batched_tokens ({budget}) is smaller than max_model_len ({max_model_len}). This effectively limits the "
        "maximum sequence length to max_num_batched_tokens and makes vLLM reject longer sequences. Please increase "
        "max_num_batched_tokens or decrease max_model_len.",
    )


def budget_below_batch(budget: int, max_num_seqs: int) -> str:
    """Return the text of a token budget that cannot hold one token of each request."""
    return validation_error(
        "SchedulerConfig",
        f"max_num_batched_tokens ({budget}) must be greater than or equal to max_num_seqs ({max_num_seqs}).",
    )


def little_free_memory(free_bytes: float, total_bytes: float, utilization: float) -> str:
    """Return the text of a share of memory that is not free at the start."""
    return (
        f"ValueError: Free memory on device cuda:0 ({free_bytes / GIB:.2f}/{total_bytes / GIB:.2f} GiB) on startup is less "
        f"than desired GPU memory utilization ({utilization}, {utilization * total_bytes / GIB:.2f} GiB). Decrease GPU "
        "memory utilization or reduce GPU memory used by other processes."
    )


def context_beyond_kv(max_model_len: int, needed_bytes: float, available_bytes: float, possible_tokens: int) -> str:
    """Return the text of a KV cache that cannot hold one request of full length."""
    return (
        f"ValueError: To serve at least one request with the models's max seq len ({max_model_len}), "
        f"({needed_bytes / GIB:.2f} GiB KV cache is needed, which is larger than the available KV cache memory "
        f"({available_bytes / GIB:.2f} GiB). Based on the available memory, the estimated maximum model length is "
        f"{possible_tokens}. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the "
        "engine."
    )


def out_of_memory(free_bytes: float, total_bytes: float) -> str:
    """Return torch's report of an allocation that failed while weights, graphs or buffers were made."""
    return (
        f"torch.OutOfMemoryError: CUDA out of memory. GPU 0 has a total capacity of {total_bytes / GIB:.2f} GiB of which "
        f"{free_bytes / GIB:.2f} GiB is free."
    )
