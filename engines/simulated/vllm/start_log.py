"""The log a starting ``vllm serve`` writes, with the processes and source positions of the captured one."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from engines.simulated.model.memory import GIB

if TYPE_CHECKING:
    from engines.simulated.model import EngineConfig, MemoryPlan
    from engines.simulated.vllm.command_line import ServeCommand


def log(message: str, *, source: str = "api_server.py:577", level: str = "INFO", process: str = "APIServer") -> None:
    """Write one line in the server's format to stdout, at once."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    sys.stdout.write(f"({process} pid={os.getpid()}) {level} {stamp} [{source}] {message}\n")
    sys.stdout.flush()


def engine_log(message: str, source: str, level: str = "INFO") -> None:
    """Write one line of the engine's process."""
    log(message, source=source, level=level, process="EngineCore")


def uvicorn_log(message: str) -> None:
    """Write one line in uvicorn's format to stdout, at once."""
    sys.stdout.write(f"(APIServer pid={os.getpid()}) INFO:     {message}\n")
    sys.stdout.flush()


def engine_failed(text: str) -> None:
    """Write the engine process's report of its own end; the front end's last line comes after it."""
    engine_log("EngineCore failed to start.", "core.py:1231", "ERROR")
    for line in text.splitlines():
        engine_log(line, "core.py:1231", "ERROR")


def log_settings(version: str, config: EngineConfig, command: ServeCommand) -> None:
    """Write the settings in force, as far as they are simulated."""
    if config.enable_chunked_prefill:
        log(
            f"Chunked prefill is enabled with max_num_batched_tokens={config.max_num_tokens}.",
            source="scheduler.py:252",
        )
    largest = max(config.cuda_graphs.batch_sizes) if config.cuda_graphs else 0
    engine_log(
        f"Initializing a V1 LLM engine (v{version}) with config: model={command.model!r}, max_seq_len={config.max_seq_len}, "
        f"tensor_parallel_size={config.tensor_parallel_size}, pipeline_parallel_size={config.pipeline_parallel_size}, "
        f"data_parallel_size=1, enforce_eager={config.cuda_graphs is None}, kv_cache_dtype={command.kv_cache_dtype}, "
        f"enable_prefix_caching={config.enable_block_reuse}, enable_chunked_prefill={config.enable_chunked_prefill}, "
        f"compilation_config={{'max_cudagraph_capture_size': {largest}}}",
        "core.py:114",
    )


def log_kv_cache(available_bytes: float, tokens: int, max_model_len: int) -> None:
    """Write what is left for the KV cache."""
    engine_log(f"Available KV cache memory: {available_bytes / GIB:.2f} GiB", "gpu_worker.py:508")
    engine_log(f"GPU KV cache size: {tokens:,} tokens", "kv_cache_utils.py:2146")
    concurrency = tokens / max_model_len
    engine_log(
        f"Maximum concurrency for {max_model_len:,} tokens per request: {concurrency:.2f}x", "kv_cache_utils.py:2147"
    )


def log_graphs(plan: MemoryPlan, seconds: float) -> None:
    """Write that the CUDA graphs were captured."""
    if plan.graph_sizes:
        engine_log(
            f"Graph capturing finished in {seconds:.0f} secs, took {plan.graph_bytes / GIB:.2f} GiB",
            "model_runner.py:726",
        )
