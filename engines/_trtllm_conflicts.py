"""Settings of TensorRT-LLM that cannot work together, or of which one has no effect (contract trtllm 5.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines._trtllm_speculation_knobs import DRAFT_LENGTH, METHOD, WITH_DRAFT_MODEL
from engines._trtllm_versioned import (
    COMPILE_ON,
    DEFAULT_BATCH_SIZE,
    DEFAULT_GRAPH_BATCH_SIZE,
    DEFAULT_TOKEN_BUDGET,
    DEFAULT_TOKENS_PER_BLOCK,
    GRAPHS_ON,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.knob import Value

_WITHOUT_PIPELINE = ("MTP", "Eagle", "Eagle3")
_MODEL_KEYS = ("speculative_config.speculative_model", "speculative_config.speculative_model_dir")


def find_conflict(params: Mapping[str, Value]) -> str | None:
    """The first conflict, or None. What depends on the workload or the GPUs is judged elsewhere."""
    for check in (
        _parallel_conflict,
        _expert_conflict,
        _batch_conflict,
        _graph_conflict,
        _prefill_graph_conflict,
        _chunk_conflict,
        _capacity_conflict,
        _wait_conflict,
        _speculation_conflict,
    ):
        if reason := check(params):
            return reason
    return None


def _parallel_conflict(params: Mapping[str, Value]) -> str | None:
    tp, pp = _number(params, "tensor_parallel_size", 1), _number(params, "pipeline_parallel_size", 1)
    if params.get("enable_attention_dp") and tp == 1:
        return "enable_attention_dp has no effect with tensor_parallel_size 1"
    stages = str(params.get("pp_partition") or "")
    if stages and stages.count(",") + 1 != pp:
        return f"pp_partition names {stages.count(',') + 1} stages, and pipeline_parallel_size is {pp:g}"
    if params.get("cp_config.cp_type") == "HELIX":
        block = _number(params, "kv_cache_config.tokens_per_block", DEFAULT_TOKENS_PER_BLOCK)
        if _number(params, "cp_config.tokens_per_block", block) != block:
            return f"with HELIX cp_config.tokens_per_block must equal kv_cache_config.tokens_per_block {block:g}"
    return None


def _expert_conflict(params: Mapping[str, Value]) -> str | None:
    tp = _number(params, "tensor_parallel_size", 1) * _number(params, "context_parallel_size", 1)
    ep, moe_tp = _number(params, "moe_expert_parallel_size", 0), _number(params, "moe_tensor_parallel_size", 0)
    for name, size in (("moe_expert_parallel_size", ep), ("moe_tensor_parallel_size", moe_tp)):
        if size and tp % size:
            return f"{name} {size:g} does not divide tensor_parallel_size {tp:g}"
    clusters = _number(params, "moe_cluster_parallel_size", 1)
    if ep and moe_tp and ep * moe_tp * clusters != tp:
        return f"moe_tensor_parallel_size x moe_expert_parallel_size is {ep * moe_tp:g}, not {tp:g}"
    return None


def _batch_conflict(params: Mapping[str, Value]) -> str | None:
    if "max_batch_size" not in params or "max_num_tokens" not in params:
        return None
    batch = _number(params, "max_batch_size", DEFAULT_BATCH_SIZE)
    budget = _number(params, "max_num_tokens", DEFAULT_TOKEN_BUDGET)
    if batch > budget:
        return f"max_batch_size {batch:g} is more than max_num_tokens: each request needs a token of the budget"
    drafts = _number(params, DRAFT_LENGTH, 0) if params.get(METHOD) else 0
    if drafts and batch * (1 + drafts) > budget:
        return (
            f"max_batch_size {batch:g} with {drafts:g} guessed tokens needs {batch * (1 + drafts):g} tokens in an"
            f" iteration, and max_num_tokens is {budget:g}"
        )
    return None


def _graph_conflict(params: Mapping[str, Value]) -> str | None:
    if params.get(GRAPHS_ON) is False:
        return None
    largest = _number(params, "cuda_graph_config.max_batch_size", DEFAULT_GRAPH_BATCH_SIZE)
    batch = _number(params, "max_batch_size", DEFAULT_BATCH_SIZE)
    if "max_batch_size" in params and "cuda_graph_config.max_batch_size" in params and largest > batch:
        return f"cuda_graph_config.max_batch_size {largest:g} is more than max_batch_size {batch:g}: never used"
    sizes = [
        int(size) for size in str(params.get("cuda_graph_config.batch_sizes") or "").split(",") if size.isdecimal()
    ]
    if sizes and "cuda_graph_config.max_batch_size" in params and largest != max(sizes):
        return f"cuda_graph_config.max_batch_size must be {max(sizes)}, the largest of cuda_graph_config.batch_sizes"
    return None


def _prefill_graph_conflict(params: Mapping[str, Value]) -> str | None:
    if params.get("prefill_cuda_graph_backend") == "breakable" and params.get(COMPILE_ON):
        return "prefill_cuda_graph_backend breakable excludes torch.compile"
    return None


def _chunk_conflict(params: Mapping[str, Value]) -> str | None:
    tokens = _number(params, "max_num_tokens", DEFAULT_TOKEN_BUDGET)
    block = _number(params, "kv_cache_config.tokens_per_block", DEFAULT_TOKENS_PER_BLOCK)
    if params.get("enable_chunked_prefill") and tokens % block:
        return f"with chunked prefill max_num_tokens {tokens:g} must be a multiple of tokens_per_block {block:g}"
    return None


def _capacity_conflict(params: Mapping[str, Value]) -> str | None:
    capacity = _number(params, "kv_cache_config.max_tokens", 0)
    length = _number(params, "max_seq_len", 0)
    if capacity and length > capacity:
        return f"max_seq_len {length:g} does not fit kv_cache_config.max_tokens {capacity:g}"
    if params.get("kv_cache_config.disk_cache_size") and not params.get("kv_cache_config.disk_cache_path"):
        return "kv_cache_config.disk_cache_size needs kv_cache_config.disk_cache_path"
    return None


def _wait_conflict(params: Mapping[str, Value]) -> str | None:
    if params.get("enable_early_first_token_response") and params.get("disable_overlap_scheduler"):
        return "enable_early_first_token_response needs the overlap scheduler"
    waits = _number(params, "batch_wait_timeout_ms", 0) or _number(params, "batch_wait_timeout_iters", 0)
    if _number(params, "batch_wait_max_tokens_ratio", 0) and not waits:
        return "batch_wait_max_tokens_ratio has no effect without batch_wait_timeout_ms or batch_wait_timeout_iters"
    return None


def _speculation_conflict(params: Mapping[str, Value]) -> str | None:
    method = params.get(METHOD)
    if not method:
        return f"{DRAFT_LENGTH} has no effect without {METHOD}" if params.get(DRAFT_LENGTH) else None
    if method in _WITHOUT_PIPELINE and _number(params, "pipeline_parallel_size", 1) > 1:
        return f"speculation by {method} does not go with pipeline parallelism"
    if method in _WITHOUT_PIPELINE and params.get("cp_config.cp_type") == "HELIX":
        return f"speculation by {method} does not go with HELIX"
    if method in WITH_DRAFT_MODEL and not any(params.get(key) for key in _MODEL_KEYS):
        return (
            f"speculation by {method} needs a draft model: set speculative_config.speculative_model"
            " (before 1.2: speculative_model_dir)"
        )
    if method in ("NGram", *WITH_DRAFT_MODEL) and not params.get(DRAFT_LENGTH):
        return f"speculation by {method} needs {DRAFT_LENGTH}"
    return None


def _number(params: Mapping[str, Value], name: str, default: float) -> float:
    value = params.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default
