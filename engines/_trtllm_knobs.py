"""Knobs of `trtllm-serve` (contract trtllm section 5), each with the versions whose YAML takes its key.

Every value is fixed at process start: each change is a restart. The ranges are those worth trying; numbers with a grid
are searched on it. Where a key's domain or default changed it stands here once for each.
"""

from __future__ import annotations

from engines._trtllm_kernel_knobs import KERNEL_KNOBS
from engines._trtllm_speculation_knobs import SPECULATION_KNOBS
from engines._trtllm_versioned import (
    BATCH_SIZES,
    DEFAULT_BATCH_SIZE,
    DEFAULT_TOKEN_BUDGET,
    DEFAULT_TOKENS_PER_BLOCK,
    PARALLEL_SIZES,
    TOKEN_BUDGETS,
    VersionedKnob,
    in_force,
)
from engines._trtllm_versions import LATE, V1_1, V1_2, V1_3
from engines.knob import Knob

_CHUNKED = {"enable_chunked_prefill": (True,)}
_BALANCED = {"enable_attention_dp": (True,), "attention_dp_config.enable_balance": (True,)}
_REUSE = {"kv_cache_config.enable_block_reuse": (True,)}
_V2 = {"kv_cache_config.use_kv_cache_manager_v2": (True, "auto")}
_ALL_REDUCE = ("AUTO", "NCCL", "UB", "MINLATENCY", "ONESHOT", "TWOSHOT", "LOWPRECISION", "MNNVL")
_ALL_REDUCE_HELP = "How ranks add up; NCCL where peer access is missing."

SIZE_KNOBS = (
    VersionedKnob(Knob(
        "max_batch_size", "int", DEFAULT_BATCH_SIZE, 1, 8192, log=True, choices=BATCH_SIZES, searched=True,
        help="Most requests in one iteration; per rank under attention DP.",
    )),
    VersionedKnob(Knob(
        "max_num_tokens", "int", DEFAULT_TOKEN_BUDGET, 64, 131072, log=True, choices=TOKEN_BUDGETS, searched=True,
        help="Token budget of one iteration, prefill and decode together; sizes activations, hence the KV cache.",
    )),
    VersionedKnob(Knob(
        "max_seq_len", "int", None, 16, 10_000_000, log=True,
        help="Most tokens of one request, prompt and output; left out: the model's, lowered to what fits.",
    )),
    VersionedKnob(Knob(
        "max_input_len", "int", 1024, 1, 10_000_000, help="Has no effect with the PyTorch backend; taken for old files.",
    )),
    VersionedKnob(Knob("max_beam_width", "int", 1, 1, 64, help="Beams of a request; 1 samples.")),
    VersionedKnob(Knob(
        "enable_chunked_prefill", "bool", False, searched=True,
        help="Split prompts that do not fit the rest of the token budget; without it longer prompts are refused.",
    )),
    VersionedKnob(Knob(
        "scheduler_config.capacity_scheduler_policy", "choice", "GUARANTEED_NO_EVICT",
        choices=("GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"), searched=True,
        help="Reserve KV for a request's whole length, or pack more and pause requests when it runs out.",
    )),
    VersionedKnob(Knob(
        "scheduler_config.context_chunking_policy", "choice", None,
        choices=(None, "FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS"), requires=_CHUNKED,
        help="Whose prompt gets the rest of the token budget.",
    ), until=V1_3),
    VersionedKnob(Knob(
        "scheduler_config.context_chunking_policy", "choice", None,
        choices=(None, "FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS", "FORCE_CHUNK"), requires=_CHUNKED,
        help="Whose prompt gets the rest of the token budget.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "scheduler_config.waiting_queue_policy", "choice", "fcfs", choices=("fcfs", "priority"),
        help="Who is admitted next: first come, or by the priority of the request.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "scheduler_config.use_python_scheduler", "bool", False, help="The scheduler written in Python.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "scheduler_config.enable_prefix_aware_scheduling", "bool", True, requires=_REUSE,
        help="Admit requests whose prompt is in the cache first.",
    ), since=LATE),
    VersionedKnob(Knob(
        "batch_wait_timeout_ms", "float", 0.0, 0.0, 10_000.0,
        help="Hold admission up to this long to fill a batch: TTFT for throughput.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "batch_wait_timeout_iters", "int", 0, 0, 10_000, help="As batch_wait_timeout_ms, in iterations.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "batch_wait_max_tokens_ratio", "float", 0.0, 0.0, 1.0,
        help="Stop waiting when queued tokens reach this share of max_num_tokens.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "stream_interval", "int", 1, 1, 128, log=True, choices=(1, 2, 4, 8, 10, 16, 20, 32),
        help="Iterations per streamed answer: more saves host time and makes chunks larger.",
    )),
    VersionedKnob(Knob(
        "num_postprocess_workers", "int", 0, 0, 64, choices=(0, 1, 2, 4, 8),
        help="Processes for detokenising; for servers whose HTTP process is CPU bound.",
    )),
    VersionedKnob(Knob(
        "num_serve_frontends", "int", 1, 1, 64, choices=(1, 2, 4, 8),
        help="HTTP processes on one port; with more than one each tells only its own part of the metrics.",
    ), since=LATE),
    VersionedKnob(Knob(
        "disable_overlap_scheduler", "bool", False,
        help="Do not prepare the next iteration while the GPU works on this one.",
    )),
    VersionedKnob(Knob(
        "enable_early_first_token_response", "bool", False,
        requires={"disable_overlap_scheduler": (False,)}, help="Send the first token before its iteration is done.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "garbage_collection_gen0_threshold", "int", 20_000, 100, 10_000_000, log=True,
        help="Objects made between two runs of Python's garbage collector: fewer, longer pauses when larger.",
    )),
)  # fmt: skip
"""Sizes, scheduler and the HTTP side (contract 5.1)."""

KV_KNOBS = (
    VersionedKnob(Knob(
        "kv_cache_config.free_gpu_memory_fraction", "float", 0.9, 0.05, 0.99,
        choices=(0.6, 0.7, 0.8, 0.85, 0.9, 0.95), searched=True,
        help="Share of the memory that is free after the model is loaded, for the KV cache.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.max_tokens", "int", None, 64, 1_000_000_000, log=True,
        help="Most tokens in the KV cache; the smaller of this and the share counts.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.max_gpu_total_bytes", "int", 0, 0, 2**44,
        help="Most bytes of the KV cache; 0: no such limit. The smallest of the limits counts.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "kv_cache_config.dtype", "choice", "auto", choices=("auto", "fp8"), coarse=True,
        help="Data type of the KV cache; fp8 doubles its tokens and needs SM89 or newer.",
    ), until=V1_2),
    VersionedKnob(Knob(
        "kv_cache_config.dtype", "choice", "auto", choices=("auto", "fp8", "nvfp4"), coarse=True,
        help="Data type of the KV cache; fp8 doubles its tokens and needs SM89 or newer, nvfp4 Blackwell.",
    ), since=V1_2, until=LATE),
    VersionedKnob(Knob(
        "kv_cache_config.dtype", "choice", "auto", choices=("auto", "fp8", "nvfp4", "fp8_ds_mla"), coarse=True,
        help="Data type of the KV cache; fp8 doubles its tokens and needs SM89 or newer, nvfp4 Blackwell.",
    ), since=LATE),
    VersionedKnob(Knob(
        "kv_cache_config.enable_block_reuse", "bool", True,
        help="Prefix caching. For honest prefill figures turn it off or send prompts that differ.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.enable_partial_reuse", "bool", True, requires=_REUSE, help="Reuse part of a block.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.copy_on_partial_reuse", "bool", True,
        requires={**_REUSE, "kv_cache_config.enable_partial_reuse": (True,)},
        help="Reuse part of a block that others use too, by copying it.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.tokens_per_block", "choice", DEFAULT_TOKENS_PER_BLOCK, choices=(16, 32, 64, 128),
        help="Tokens of one KV block; some attention kernels force 64.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "kv_cache_config.host_cache_size", "int", None, 0, 2**44,
        help="Host memory for KV blocks in bytes, per rank.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.secondary_offload_min_priority", "int", None, 0, 100,
        requires=_REUSE, help="Blocks of a lower priority are dropped instead of moved to host memory.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.max_attention_window", "list", None,
        help="Attention windows in tokens, repeated over the layers, such as 4096,131072.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.event_buffer_max_size", "int", 0, 0, 1_000_000,
        help="Events kept for /kv_cache_events; costs host time.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.attention_dp_events_gather_period_ms", "int", 5, 1, 10_000,
        requires={"enable_attention_dp": (True,)}, help="How often the ranks' KV events are gathered.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "kv_cache_config.cross_kv_cache_fraction", "float", None, 0.0, 1.0,
        help="Share of the KV cache for cross attention; encoder-decoder models only.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.use_uvm", "bool", False, help="Unified memory for the KV cache: larger and much slower.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.iteration_stats_interval", "int", 1, 1, 10_000, help="Iterations per KV statistics record.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "kv_cache_config.use_kv_cache_manager_v2", "choice", "auto", choices=("auto", True, False),
        help="The newer KV-cache manager.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "kv_cache_config.disk_cache_size", "int", None, 0, 2**48, requires=_V2,
        help="Disk space for KV blocks in bytes; needs disk_cache_path.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "kv_cache_config.disk_cache_path", "text", None, requires=_V2, help="Folder for KV blocks; it must exist.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "kv_cache_config.mamba_ssm_cache_dtype", "choice", "auto",
        choices=("auto", "float16", "bfloat16", "float32"), help="Data type of the state of Mamba layers.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "kv_cache_config.avg_seq_len", "int", None, 1, 10_000_000, requires=_V2,
        help="Usual length of a request; divides the pool between kinds of layers.",
    ), since=LATE),
    VersionedKnob(Knob(
        "kv_cache_config.enable_kv_pool_rebalance", "bool", False, requires=_V2,
        help="Move memory between the pools of layers of different kinds.",
    ), since=LATE),
    VersionedKnob(Knob(
        "kv_cache_config.max_util_for_resume", "float", 0.95, 0.0, 1.0, requires=_V2,
        help="A paused request goes on below this share of used KV cache.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "kv_cache_config.fp8_context_mla_kv_len_cap", "int", None, 1, 10_000_000,
        help="Longest context that MLA keeps in fp8 in prefill.",
    ), since=LATE),
)  # fmt: skip
"""The KV cache (contract 5.2)."""

PARALLEL_KNOBS = (
    VersionedKnob(Knob(
        "tensor_parallel_size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, searched=True,
        help="GPUs that share each layer; must divide the attention heads.",
    )),
    VersionedKnob(Knob(
        "pipeline_parallel_size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
        help="Stages the layers are dealt out to.",
    )),
    VersionedKnob(Knob(
        "context_parallel_size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
        help="GPUs that share the tokens of one request.",
    ), since=V1_2),
    VersionedKnob(Knob(
        "cp_config.cp_type", "choice", None, choices=(None, "ULYSSES", "RING", "HELIX"),
        requires={"context_parallel_size": (2, 4, 8, 16)}, help="How the tokens of one request are shared.",
    ), since=V1_2),
    VersionedKnob(Knob(
        "cp_config.tokens_per_block", "int", None, 1, 1024, requires={"cp_config.cp_type": ("HELIX",)},
        help="With HELIX; must equal kv_cache_config.tokens_per_block.",
    ), since=V1_2),
    VersionedKnob(Knob(
        "moe_expert_parallel_size", "int", None, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
        help="GPUs the experts are dealt out to; must divide tensor_parallel_size. Left out: automatic.",
    )),
    VersionedKnob(Knob(
        "moe_tensor_parallel_size", "int", None, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
        help="GPUs that share each expert; times moe_expert_parallel_size it is tensor_parallel_size.",
    )),
    VersionedKnob(Knob(
        "moe_cluster_parallel_size", "int", None, 1, 64, coarse=True, help="Deprecated: clusters of experts.",
    )),
    VersionedKnob(Knob(
        "enable_attention_dp", "bool", False, coarse=True,
        help="Attention data-parallel over the tensor-parallel ranks: for MLA models at high concurrency.",
    )),
    VersionedKnob(Knob(
        "attention_dp_config.enable_balance", "bool", False, requires={"enable_attention_dp": (True,)},
        help="Hold requests back so that the ranks' prefills fall together.",
    )),
    VersionedKnob(Knob(
        "attention_dp_config.timeout_iters", "int", 50, 0, 10_000, requires=_BALANCED,
        help="Iterations a prefill is held back at most.",
    )),
    VersionedKnob(Knob(
        "attention_dp_config.batching_wait_iters", "int", 10, 0, 10_000, requires=_BALANCED,
        help="Iterations to wait for more prefills.",
    )),
    VersionedKnob(Knob(
        "attention_dp_config.enable_kv_cache_aware_routing", "bool", False,
        requires={"enable_attention_dp": (True,)}, help="Send a request to the rank that has its prefix.",
    ), since=V1_3),
    VersionedKnob(Knob(
        "enable_lm_head_tp_in_adp", "bool", False, requires={"enable_attention_dp": (True,)},
        help="Share the output head over the ranks all the same.",
    ), since=V1_1),
    VersionedKnob(Knob(
        "pp_partition", "list", None, requires={"pipeline_parallel_size": (2, 4, 8, 16)},
        help="Layers of each pipeline stage, such as 20,20,20,20.",
    ), since=V1_2),
    VersionedKnob(Knob(
        "gpus_per_node", "int", None, 1, 64, help="GPUs of a node; left out: detected.",
    )),
    VersionedKnob(Knob(
        "allreduce_strategy", "choice", "AUTO", choices=_ALL_REDUCE,
        requires={"tensor_parallel_size": (2, 4, 8, 16)}, help=_ALL_REDUCE_HELP,
    ), until=V1_1),
    VersionedKnob(Knob(
        "allreduce_strategy", "choice", "AUTO", choices=(*_ALL_REDUCE, "NCCL_SYMMETRIC"),
        requires={"tensor_parallel_size": (2, 4, 8, 16)}, help=_ALL_REDUCE_HELP,
    ), since=V1_1),
)  # fmt: skip
"""Parallelism (contract 5.3)."""

KNOBS: tuple[VersionedKnob, ...] = (*SIZE_KNOBS, *PARALLEL_KNOBS, *KV_KNOBS, *KERNEL_KNOBS, *SPECULATION_KNOBS)


def knobs_of(version: str) -> tuple[Knob, ...]:
    """The knobs of a version; those of the newest when the version is unknown."""
    return in_force(KNOBS, version)
