"""What a dying ``trtllm-serve`` prints (contract section 8.1, upstream ``py_executor_creator.py`` and ``serve.py``)."""

from __future__ import annotations

from typing import Final

from engines.simulated.model.memory import GIB, Component, ComponentMemory, OutOfGpuMemoryError

_CONSUMERS: Final[dict[Component, str]] = {
    Component.MODEL: "Model: reduce max_num_tokens and/or shard the model weights across GPUs by enabling pipeline "
    "and/or tensor parallelism",
    Component.INITIAL_KV_CACHE: "Initial KV cache (temporary for KV cache size estimation): reduce max_num_tokens",
    Component.EXTRA_RESOURCES: "Additional executor resources (temporary for KV cache size estimation): reduce "
    "max_num_tokens",
    Component.KV_CACHE: "KV cache: reduce free_gpu_memory_fraction",
}
"""The advice lines, keyed by the component they are about."""


def _table(created: tuple[ComponentMemory, ...]) -> str:
    return "\n".join(
        f"{row.component}: {row.free_before_bytes / GIB:.2f} / {row.free_after_bytes / GIB:.2f}" for row in created
    )


def out_of_memory_text(error: OutOfGpuMemoryError) -> str:
    """Return the server's report of a component that did not fit."""
    advice = "\n".join(_CONSUMERS.values())
    return (
        "RuntimeError: Executor creation failed due to insufficient GPU memory.\n\n"
        f"The following component could not be created: {error.component}\n"
        "torch.OutOfMemoryError: CUDA out of memory.\n\n"
        f"Total GPU memory (GiB): {error.total_bytes / GIB:.2f}\n"
        f"Free GPU memory before component creation attempt (GiB): {error.free_bytes / GIB:.2f}\n\n"
        "Previously created components and free GPU memory before/after creation (GiB):\n"
        f"{_table(error.created)}\n\n"
        "Please refer to the TensorRT LLM documentation for information on how to control the memory usage through "
        f"TensorRT LLM configuration options. Possible options include:\n{advice}\n"
        "RuntimeError: Executor worker returned error"
    )


def window_too_large_text(max_seq_len: int, kv_capacity_tokens: int) -> str:
    """Return the text of a KV pool that cannot hold one sequence; the server's exact words are not known."""
    return (
        f"RuntimeError: The attention window size {max_seq_len} exceeds the KV cache capacity of {kv_capacity_tokens} "
        "tokens: reduce max_seq_len or increase free_gpu_memory_fraction\n"
        "RuntimeError: Executor worker returned error"
    )
