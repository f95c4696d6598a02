"""Settings of TensorRT-LLM that cannot work together, or of which one has no effect (contract trtllm 5.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines._trtllm_knobs import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_GRAPH_BATCH_SIZE,
    DEFAULT_TOKEN_BUDGET,
    DEFAULT_TOKENS_PER_BLOCK,
    GRAPHS_ON,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.base import Value


def find_conflict(params: Mapping[str, Value]) -> str | None:
    """The first conflict, or None. What depends on the workload or the GPUs is judged elsewhere."""
    for check in (_parallel_conflict, _batch_conflict, _chunk_conflict, _wait_conflict):
        if reason := check(params):
            return reason
    return None


def _parallel_conflict(params: Mapping[str, Value]) -> str | None:
    tp = _number(params, "tensor_parallel_size", 1)
    ep = _number(params, "moe_expert_parallel_size", 0)
    if ep and tp % ep:
        return f"moe_expert_parallel_size {ep:g} does not divide tensor_parallel_size {tp:g}"
    if params.get("enable_attention_dp") and tp == 1:
        return "enable_attention_dp has no effect with tensor_parallel_size 1"
    return None


def _batch_conflict(params: Mapping[str, Value]) -> str | None:
    batch = _number(params, "max_batch_size", DEFAULT_BATCH_SIZE)
    if (
        "max_batch_size" in params
        and "max_num_tokens" in params
        and batch > _number(params, "max_num_tokens", DEFAULT_TOKEN_BUDGET)
    ):
        return f"max_batch_size {batch:g} is more than max_num_tokens: each request needs a token of the budget"
    if params.get(GRAPHS_ON) is False or "max_batch_size" not in params:
        return None
    graphs = _number(params, "cuda_graph_config.max_batch_size", DEFAULT_GRAPH_BATCH_SIZE)
    if "cuda_graph_config.max_batch_size" in params and graphs > batch:
        return f"cuda_graph_config.max_batch_size {graphs:g} is more than max_batch_size {batch:g}: never used"
    return None


def _chunk_conflict(params: Mapping[str, Value]) -> str | None:
    tokens = _number(params, "max_num_tokens", DEFAULT_TOKEN_BUDGET)
    block = _number(params, "kv_cache_config.tokens_per_block", DEFAULT_TOKENS_PER_BLOCK)
    if params.get("enable_chunked_prefill") and tokens % block:
        return f"with chunked prefill max_num_tokens {tokens:g} must be a multiple of tokens_per_block {block:g}"
    capacity = _number(params, "kv_cache_config.max_tokens", 0)
    length = _number(params, "max_seq_len", 0)
    if capacity and length > capacity:
        return f"max_seq_len {length:g} does not fit kv_cache_config.max_tokens {capacity:g}"
    return None


def _wait_conflict(params: Mapping[str, Value]) -> str | None:
    if params.get("enable_early_first_token_response") and params.get("disable_overlap_scheduler"):
        return "enable_early_first_token_response needs the overlap scheduler"
    waits = _number(params, "batch_wait_timeout_ms", 0) or _number(params, "batch_wait_timeout_iters", 0)
    if _number(params, "batch_wait_max_tokens_ratio", 0) and not waits:
        return "batch_wait_max_tokens_ratio has no effect without batch_wait_timeout_ms or batch_wait_timeout_iters"
    return None


def _number(params: Mapping[str, Value], name: str, default: float) -> float:
    value = params.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default
