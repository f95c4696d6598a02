"""Knobs, failure texts and start phases of NIM for LLMs by product line (contract nim 1, 3, 6).

No container of NIM could be run here. Failure texts are matched loosely, and only those of the engines inside end a
start early.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from engines import _sglang_tables, _vllm_failures, _vllm_knobs
from engines._common_failures import python_server_rules
from engines.failure import FailureRule
from engines.knob import Knob
from engines.launch.phases import PhaseRule

if TYPE_CHECKING:
    from collections.abc import Mapping

PROFILE = "NIM_MODEL_PROFILE"
PROFILE_KNOB = Knob(
    PROFILE,
    "choice",
    None,
    choices=(None,),
    coarse=True,
    pattern=r"[0-9a-f]{64}|[a-z]+(?:_llm)?-[\w.:+\-]+",
    help="Profile: backend, precision, parallelism. Its choices come from the image: list-model-profiles.",
)
MEMORY_SHARE = "NIM_KVCACHE_PERCENT"
LENGTH = "NIM_MAX_MODEL_LEN"
SCHEDULER = "NIM_SCHEDULER_POLICY"
TENSOR = "NIM_TENSOR_PARALLEL_SIZE"
PARALLEL_SIZES = (1, 2, 4, 8, 16)
_REUSE = {"NIM_ENABLE_KV_CACHE_REUSE": (True,)}

VARIABLES = (
    PROFILE_KNOB,
    Knob(MEMORY_SHARE, "float", 0.9, 0.05, 0.99, choices=(0.8, 0.85, 0.9, 0.95), searched=True, both_ways=True,
         help="Memory share; of all or of free memory, by backend: look at the KV cache that comes of it."),
    Knob("NIM_ENABLE_KV_CACHE_REUSE", "bool", False, searched=True, help="Prefix caching; off by default."),
    Knob("NIM_ENABLE_KV_CACHE_HOST_OFFLOAD", "bool", None, requires=_REUSE,
         help="KV cache in host memory behind the GPU's; TensorRT-LLM profiles."),
    Knob("NIM_KV_CACHE_HOST_MEM_FRACTION", "float", 0.1, 0.0, 1.0,
         requires={"NIM_ENABLE_KV_CACHE_HOST_OFFLOAD": (True,)}, help="Share of free host memory for it."),
    Knob(SCHEDULER, "choice", "guarantee_no_evict", choices=("guarantee_no_evict", "max_utilization"),
         searched=True, help="Reserve KV for whole requests, or pack more; TensorRT-LLM profiles."),
    Knob(LENGTH, "int", None, 16, 10_000_000, log=True, help="Most tokens of one request."),
    Knob("NIM_MAX_BATCH_SIZE", "int", None, 1, 8192, log=True, choices=(32, 64, 128, 256, 512, 1024),
         help="Most requests in one step; buildable TensorRT-LLM profiles only."),
    Knob("NIM_MAX_NUM_SEQS", "int", None, 1, 8192, log=True, choices=(32, 64, 128, 256, 512, 1024),
         help="Most requests in one step; vLLM profiles."),
    Knob(TENSOR, "int", None, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
         help="GPUs that share each layer; buildable and generic profiles."),
    Knob("NIM_PIPELINE_PARALLEL_SIZE", "int", None, 1, 64, log=True, choices=PARALLEL_SIZES, coarse=True,
         help="Pipeline stages; buildable and generic profiles."),
    Knob("NIM_RELAX_MEM_CONSTRAINTS", "bool", False, help="Start though less than about 95 % of the GPU is free."),
    Knob("NIM_NUM_KV_CACHE_SEQ_LENS", "int", None, 1, 1_000_000, log=True,
         requires={"NIM_RELAX_MEM_CONSTRAINTS": (True,)}, help="KV cache as a multiple of the longest request."),
    Knob("NIM_LOW_MEMORY_MODE", "bool", False, help="Build large engines with less memory; starts slowly."),
    Knob("NIM_DISABLE_CUDA_GRAPH", "bool", False, help="For diagnosis: no CUDA graphs."),
    Knob("NIM_DISABLE_OVERLAP_SCHEDULING", "bool", False, help="For diagnosis: schedule while the GPU waits."),
    Knob("NIM_FORCE_DETERMINISTIC", "bool", False, help="For diagnosis: the same answer each time."),
    Knob("NIM_GUIDED_DECODING_BACKEND", "choice", None, choices=(None, "xgrammar", "outlines"),
         help="Structured output; left out: by version."),
    Knob("NIM_SDK_MAX_PARALLEL_DOWNLOAD_REQUESTS", "int", 1, 1, 64, help="Downloads at once, for a faster start."),
)  # fmt: skip
"""Knobs of 1.x, by variable. On 2.x most of them do nothing, so that line has flags instead."""

_IGNORED_BY_VARIANTS = frozenset(
    {
        *("NIM_DISABLE_OVERLAP_SCHEDULING", "NIM_ENABLE_KV_CACHE_HOST_OFFLOAD", "NIM_FORCE_DETERMINISTIC"),
        *("NIM_KV_CACHE_HOST_MEM_FRACTION", "NIM_NUM_KV_CACHE_SEQ_LENS"),
    }
)
_SGLANG_POLICIES = (None, "lpm", "random", "fcfs", "dfs-weight", "lof", "priority")

VARIANT_VARIABLES = tuple(
    replace(knob, default=None, choices=_SGLANG_POLICIES, help="Who is admitted next; left out: by the image.")
    if knob.name == SCHEDULER
    else knob
    for knob in VARIABLES
    if knob.name not in _IGNORED_BY_VARIANTS
)
"""Knobs of images of 1.x whose tag ends in `-variant`: SGLang serves there and some variables do nothing (contract nim 1)."""


def _own_rules(length: str, tensor: str) -> tuple[FailureRule, ...]:
    return (
        FailureRule(
            "no_profile",
            re.compile(
                r"[Nn]o (?:\w+ )?profiles? (?:is |are |was |were )?(?:compatible|runnable|found|available|match)"
                r"|[Cc]ould not (?:find|match) (?:a |any )?(?:\w+ )?profile|[Nn]o matching profile_id"
            ),
            "no profile fits this hardware, its free memory and these settings: run list-model-profiles, choose a runnable one",
            (PROFILE, length, tensor),
            fatal=False,
        ),
        FailureRule(
            "cache_not_writable",
            re.compile(r"Permission denied: '?/opt/nim"),
            "the container may not write its cache: give the mounted folder to the container's user",
            fatal=False,
            infeasible=False,
        ),
        FailureRule(
            "unauthorised",
            re.compile(
                r"NGC_API_KEY\W+(?:is |was )?(?:not set|missing|required|invalid)"
                r"|[Aa]uthentication (?:error|failed|failure)|\b40[13]\b.*(?:Unauthorized|Forbidden)"
            ),
            "NGC or the model hub refuses the key: export a valid NGC_API_KEY (gated models: HF_TOKEN) in the shell",
            fatal=False,
            infeasible=False,
        ),
        FailureRule(
            "disk_full",
            re.compile(r"No space left on device(?!.*shm)"),
            "the disk of the cache is full: make room, or mount a larger folder at /opt/nim/.cache",
            fatal=False,
            infeasible=False,
        ),
    )


V1_FAILURES = (
    *_own_rules(LENGTH, TENSOR),
    FailureRule(
        "out_of_memory",
        re.compile(r"Executor creation failed due to insufficient GPU memory|No available memory for the cache blocks"),
        "GPU memory does not suffice: change NIM_KVCACHE_PERCENT, lower NIM_MAX_MODEL_LEN, or choose another profile",
        (MEMORY_SHARE, LENGTH, PROFILE, TENSOR),
    ),
    FailureRule(
        "kv_too_small",
        re.compile(r"To serve at least one request with the model\S* max seq len"),
        "the KV cache does not hold one request: lower NIM_MAX_MODEL_LEN or raise NIM_KVCACHE_PERCENT",
        (LENGTH, MEMORY_SHARE, PROFILE),
    ),
    *python_server_rules("NIM", (MEMORY_SHARE, LENGTH), (TENSOR,)),
)


class Line(Enum):
    """Product lines that differ in their knobs. 3.x in its standard mode is as 2.x."""

    V1 = "1.x: TensorRT-LLM, vLLM or SGLang behind NIM's own server"
    VARIANT = "1.x, a variant image with SGLang"
    VLLM = "2.x with vLLM"
    SGLANG = "2.x with SGLang"


BY_VARIABLES = (Line.V1, Line.VARIANT)
"""Lines whose settings are variables of the container, and whose command is the image's own."""


@dataclass(frozen=True, slots=True)
class LineFacts:
    """What a line has.

    Attributes:
        knobs: Variables on 1.x, engine flags on 2.x.
        failures: What its log lines mean.
        negated: Whether a flag that is off is said as `--no-NAME`.
    """

    knobs: tuple[Knob, ...]
    failures: tuple[FailureRule, ...]
    negated: bool = False


FACTS: Mapping[Line, LineFacts] = {
    Line.V1: LineFacts(VARIABLES, V1_FAILURES),
    Line.VARIANT: LineFacts(VARIANT_VARIABLES, V1_FAILURES),
    Line.VLLM: LineFacts(
        (PROFILE_KNOB, *_vllm_knobs.KNOBS),
        (*_own_rules("max-model-len", "tensor-parallel-size"), *_vllm_failures.FAILURES),
        negated=True,
    ),
    Line.SGLANG: LineFacts(
        (PROFILE_KNOB, *_sglang_tables.KNOBS),
        (*_own_rules("max-total-tokens", "tp-size"), *_sglang_tables.FAILURES),
    ),
}

_MAJOR = re.compile(r"^v?(\d+)(?:\.|$|-)")


def line_of(text: str) -> Line:
    """The line of a version such as `1.8.4`, or of an image by its tag; 2.x with vLLM where neither tells it.

    Of several words the first that tells a version counts.
    """
    tags = [word.partition("@")[0].rpartition(":")[2] for word in text.split()]
    major = next((match for tag in tags if "/" not in tag and (match := _MAJOR.match(tag))), None)
    if major is not None and int(major[1]) < 2:
        return Line.VARIANT if any(tag.endswith("-variant") for tag in tags) else Line.V1
    return Line.SGLANG if "sglang" in text else Line.VLLM


_DOWNLOAD = r"Preparing model workspace|[Dd]ownloading|Fetching \d+ files"

PHASES = (
    PhaseRule("prepare", re.compile(rf"^(?!.*(?:{_DOWNLOAD})).*\S")),
    PhaseRule("download", re.compile(_DOWNLOAD)),
    PhaseRule("load", re.compile(r"Initializing a V1 LLM engine|Loading (?:model|weights|safetensors)|load_weights")),
    PhaseRule("warm-up", re.compile(r"Capturing (?:CUDA|cuda) graph|Dynamo bytecode transform|[Aa]utotun")),
)
"""Lines that begin a phase: of vLLM as captured, of NIM as its documentation shows them."""
