"""Knobs of `trtllm-serve` (contract trtllm section 5), each with the version line that first takes it.

Every value is fixed at process start: each change is a restart. The ranges are those worth trying; numbers with a grid
are searched on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engines.base import Knob

Version = tuple[int, int]

GRAPHS_ON = "cuda_graph_config.enabled"
"""Ours, not the server's: False writes `cuda_graph_config: null`, which turns decode CUDA graphs off."""

DEFAULT_GRAPH_BATCH_SIZE = 128
DEFAULT_BATCH_SIZE = 2048
DEFAULT_TOKEN_BUDGET = 8192
DEFAULT_TOKENS_PER_BLOCK = 32
OLDEST: Version = (1, 0)


@dataclass(frozen=True, slots=True)
class VersionedKnob:
    """A knob and the first version line whose YAML takes its key."""

    knob: Knob
    since: Version = OLDEST


BATCH_SIZES = (4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
TOKEN_BUDGETS = (1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768)
PARALLEL_SIZES = (1, 2, 4, 8, 16)
_GRAPHS = {GRAPHS_ON: (True,)}
_CHUNKED = {"enable_chunked_prefill": (True,)}

KNOBS = (
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
        "tensor_parallel_size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True, searched=True,
        help="GPUs that share each layer; must divide the attention heads.",
    )),
    VersionedKnob(Knob(
        "pipeline_parallel_size", "int", 1, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
        help="Stages the layers are dealt out to.",
    )),
    VersionedKnob(Knob(
        "moe_expert_parallel_size", "int", None, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
        help="GPUs the experts are dealt out to; must divide tensor_parallel_size. Left out: automatic.",
    )),
    VersionedKnob(Knob(
        "enable_attention_dp", "bool", False, coarse=True,
        help="Attention data-parallel over the tensor-parallel ranks: for MLA models at high concurrency.",
    )),
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
    )),
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
        "kv_cache_config.dtype", "choice", "auto", choices=("auto", "fp8", "nvfp4"), coarse=True,
        help="Data type of the KV cache; fp8 doubles its tokens and needs SM89 or newer, nvfp4 Blackwell.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.enable_block_reuse", "bool", True,
        help="Prefix caching. For honest prefill figures turn it off or send prompts that differ.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.enable_partial_reuse", "bool", True,
        requires={"kv_cache_config.enable_block_reuse": (True,)}, help="Reuse part of a block.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.tokens_per_block", "choice", DEFAULT_TOKENS_PER_BLOCK, choices=(16, 32, 64, 128),
        help="Tokens of one KV block; some attention kernels force 64.",
    )),
    VersionedKnob(Knob(
        "kv_cache_config.host_cache_size", "int", None, 0, 2**44,
        help="Host memory for KV blocks in bytes, per rank.",
    )),
    VersionedKnob(Knob(
        GRAPHS_ON, "bool", True, help="Decode CUDA graphs; False writes `cuda_graph_config: null`.",
    )),
    VersionedKnob(Knob(
        "cuda_graph_config.max_batch_size", "int", DEFAULT_GRAPH_BATCH_SIZE, 1, 8192, log=True,
        choices=BATCH_SIZES, searched=True, requires=_GRAPHS,
        help="Largest batch with a CUDA graph; larger ones run eagerly and much slower.",
    )),
    VersionedKnob(Knob(
        "cuda_graph_config.enable_padding", "bool", False, searched=True, requires=_GRAPHS,
        help="Pad a batch to the next size that has a graph.",
    )),
    VersionedKnob(Knob(
        "stream_interval", "int", 1, 1, 128, log=True, choices=(1, 2, 4, 8, 10, 16, 20, 32),
        help="Iterations per streamed answer: more saves host time and makes chunks larger.",
    )),
    VersionedKnob(Knob(
        "num_postprocess_workers", "int", 0, 0, 64, choices=(0, 1, 2, 4, 8),
        help="Processes for detokenising; for servers whose HTTP process is CPU bound.",
    )),
    VersionedKnob(Knob(
        "disable_overlap_scheduler", "bool", False,
        help="Do not prepare the next iteration while the GPU works on this one.",
    )),
    VersionedKnob(Knob(
        "batch_wait_timeout_ms", "float", 0.0, 0.0, 10_000.0,
        help="Hold admission up to this long to fill a batch: TTFT for throughput.",
    ), since=(1, 1)),
    VersionedKnob(Knob(
        "batch_wait_timeout_iters", "int", 0, 0, 10_000, help="As batch_wait_timeout_ms, in iterations.",
    ), since=(1, 1)),
    VersionedKnob(Knob(
        "batch_wait_max_tokens_ratio", "float", 0.0, 0.0, 1.0,
        help="Stop waiting when queued tokens reach this share of max_num_tokens.",
    ), since=(1, 1)),
    VersionedKnob(Knob(
        "attn_backend", "choice", "TRTLLM", choices=("TRTLLM", "FLASHINFER"), help="Attention kernels.",
    )),
    VersionedKnob(Knob(
        "moe_config.backend", "choice", "AUTO",
        choices=("AUTO", "CUTLASS", "CUTEDSL", "TRTLLM", "DEEPGEMM", "TRITON"),
        help="Expert kernels; TRTLLM and CUTEDSL need Blackwell.",
    ), since=(1, 2)),
    VersionedKnob(Knob(
        "allreduce_strategy", "choice", "AUTO",
        choices=("AUTO", "NCCL", "UB", "MINLATENCY", "ONESHOT", "TWOSHOT", "LOWPRECISION", "MNNVL", "NCCL_SYMMETRIC"),
        requires={"tensor_parallel_size": (2, 4, 8, 16)},
        help="How ranks add up; NCCL where peer access is missing.",
    ), since=(1, 1)),
    VersionedKnob(Knob(
        "enable_autotuner", "bool", True, help="Try kernels at start; results can differ from start to start.",
    )),
    VersionedKnob(Knob(
        "enable_early_first_token_response", "bool", False,
        requires={"disable_overlap_scheduler": (False,)}, help="Send the first token before its iteration is done.",
    ), since=(1, 3)),
    VersionedKnob(Knob(
        "dtype", "choice", "auto", choices=("auto", "float16", "bfloat16", "float32"), coarse=True,
        help="Data type of the weights.",
    )),
    VersionedKnob(Knob(
        "load_format", "choice", "auto", choices=("auto", "dummy"),
        help="dummy: random weights, for speed tests of dense models without a checkpoint.",
    )),
)  # fmt: skip

_VERSION = re.compile(r"(\d+)\.(\d+)")


def parse_version(text: str) -> Version | None:
    """Major and minor number of a version text, or None when it has none worth believing (such as `0.0.0+unknown`)."""
    match = _VERSION.match(text)
    if match is None:
        return None
    version = (int(match[1]), int(match[2]))
    return version if version >= OLDEST else None


def knobs_of(version: str) -> tuple[Knob, ...]:
    """The knobs of a version; all of them when the version is unknown."""
    line = parse_version(version)
    return tuple(entry.knob for entry in KNOBS if line is None or entry.since <= line)
