"""The log a starting ``trtllm-serve`` writes, phase by phase."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from engines.simulated.model.memory import GIB

if TYPE_CHECKING:
    from engines.simulated.model.config import EngineConfig
    from engines.simulated.model.memory import MemoryPlan


def log(message: str, level: str = "I") -> None:
    """Write one line in the server's format to stdout, at once."""
    stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
    sys.stdout.write(f"[{stamp}] [TRT-LLM] [{level}] {message}\n")
    sys.stdout.flush()


def uvicorn_log(message: str) -> None:
    """Write one line in uvicorn's format to stdout, at once."""
    sys.stdout.write(f"INFO:     {message}\n")
    sys.stdout.flush()


def log_memory(plan: MemoryPlan, config: EngineConfig) -> None:
    """Write what the KV cache estimation found."""
    log(f"Peak memory during memory usage profiling (torch + non-torch): {plan.activation_bytes / GIB:.2f} GiB")
    log(
        f"[MemUsageChange] Allocated {plan.kv_bytes / GIB:.2f} GiB for max tokens in paged KV cache "
        f"({plan.kv_capacity_tokens})."
    )
    log(f"Number of blocks: {plan.kv_blocks}, tokens per block: {config.tokens_per_block}")
    if plan.max_seq_len_lowered_from is not None:
        log(
            f"max_seq_len {plan.max_seq_len_lowered_from} is larger than the KV cache capacity, "
            f"max_seq_len is set to {plan.max_seq_len}",
            level="W",
        )


def log_graphs(plan: MemoryPlan) -> None:
    """Write which CUDA graphs were captured."""
    if plan.graph_sizes:
        sizes = ", ".join(str(size) for size in reversed(plan.graph_sizes))
        log(f"Creating CUDA graph instances for {len(plan.graph_sizes)} batch sizes: [{sizes}]")
