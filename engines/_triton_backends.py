"""The three backends behind Triton's `generate_stream`: their settings, where those lie, and what their failures mean.

Sources: contract triton sections 3 (LLM API), 4.3 (C++ backend with built engines) and 5 (vLLM). Every change costs an
unload and a load; the process stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from engines._trtllm_conflicts import find_conflict as trtllm_conflict
from engines._trtllm_failures import FAILURES as TRTLLM_FAILURES
from engines._trtllm_knobs import knobs_of
from engines._vllm_failures import FAILURES as VLLM_FAILURES
from engines._vllm_knobs import KNOBS as VLLM_KNOBS
from engines.failure import FailureRule
from engines.knob import Knob
from engines.vllm import find_conflict as vllm_conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engines.knob import Value

BackendName = Literal["llmapi", "tensorrtllm", "vllm"]
KV_SHARE = "kv_cache_free_gpu_mem_fraction"


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run a language model in Triton.

    Attributes:
        name: Short name.
        declared: Value of `backend` in `config.pbtxt`.
        settings_file: File of the model's folder that holds the settings; empty when `config.pbtxt` itself does.
        knobs: Settings that may be changed.
        failures: What its log lines and the answers to a load mean.
        conflict: Why settings cannot work together, by the backend's own names; None where nothing is known.
    """

    name: BackendName
    declared: str
    settings_file: str
    knobs: tuple[Knob, ...]
    failures: tuple[FailureRule, ...]
    conflict: Callable[[Mapping[str, Value]], str | None] | None = None


ENGINE_KNOBS = (
    Knob(KV_SHARE, "float", 0.9, 0.05, 0.99, choices=(0.7, 0.8, 0.85, 0.9, 0.95), cost="reload", searched=True,
         help="Share of the memory free after loading that becomes KV cache."),
    Knob("max_tokens_in_paged_kv_cache", "int", None, 1, 100_000_000, log=True, cost="reload",
         help="Upper limit of the KV cache in tokens; the smaller of this and the share wins."),
    Knob("batch_scheduler_policy", "choice", "guaranteed_no_evict", choices=("guaranteed_no_evict", "max_utilization"),
         cost="reload", searched=True, help="Whether a request is admitted only when its whole length fits."),
    Knob("enable_kv_cache_reuse", "bool", True, cost="reload", searched=True,
         help="Reuse KV blocks of prompts that start alike."),
    Knob("enable_chunked_context", "bool", False, cost="reload", searched=True,
         help="Split prompts over iterations; the engine must be built with paged context FMHA."),
    Knob("kv_cache_host_memory_bytes", "int", 0, 0, 1 << 42, cost="reload",
         help="Host memory that KV blocks may move to."),
    Knob("multi_block_mode", "bool", True, cost="reload", help="Split long attention over more blocks of the GPU."),
    Knob("cuda_graph_mode", "bool", False, cost="reload", searched=True, help="Capture decode steps as CUDA graphs."),
    Knob("cuda_graph_cache_size", "int", 0, 0, 4096, cost="reload", requires={"cuda_graph_mode": (True,)},
         help="How many captured graphs are kept."),
    Knob("enable_context_fmha_fp32_acc", "bool", False, cost="reload",
         help="Accumulate attention over the prompt in 32 bits."),
    Knob("gpu_weights_percent", "float", 1.0, 0.0, 1.0, cost="reload",
         help="Share of the weights on the GPU; below 1 the engine must be built for weight streaming."),
    Knob("cancellation_check_period_ms", "int", 100, 1, 10_000, log=True, cost="reload",
         help="How often cancelled requests are looked for."),
)  # fmt: skip
"""Parameters of the `tensorrt_llm` model. Batch, token budget, parallelism and precision are those of the engine build."""

SERVER_FAILURES = (
    FailureRule(
        "port_in_use",
        re.compile(r"Socket '(?P<address>[^']+)' already in use"),
        "{address} is taken: stop what listens there or choose another port",
        infeasible=False,
    ),
    FailureRule(
        "bad_config",
        re.compile(r"tritonserver: unrecognized option '(?P<option>[^']+)'"),
        "tritonserver does not know {option}: leave it out, or update the server",
        infeasible=False,
    ),
    FailureRule(
        "bad_model",
        re.compile(r"failed to stat file (?P<path>\S+)|failed to poll from model repository"),
        "the model repository cannot be read: check the path and each model's config.pbtxt",
        infeasible=False,
    ),
    FailureRule(
        "bad_config",
        re.compile(r"load failed for model '(?P<model>[^']+)'|failed to load '(?P<name>[^']+)' version"),
        "the model does not start with these settings: the lines before it in the log name the cause",
        fatal=False,
    ),
)
"""Lines of tritonserver itself; all but the last were seen on 2.51."""

_ENGINE_FAILURES = (
    FailureRule(
        "out_of_memory",
        re.compile(
            r"Executor creation failed due to insufficient GPU memory|CUDA out of memory|cudaMalloc.*out of memory"
        ),
        f"GPU memory does not suffice: lower {KV_SHARE}",
        (KV_SHARE, "max_tokens_in_paged_kv_cache", "gpu_weights_percent"),
    ),
    FailureRule(
        "bad_config",
        re.compile(r"\[TensorRT-LLM\]\[ERROR\] (?P<what>[^:]{1,80})"),
        "the C++ backend refuses to start ({what}): correct config.pbtxt",
        fatal=False,
    ),
)


def _underscored(rules: tuple[FailureRule, ...]) -> tuple[FailureRule, ...]:
    """The rules with knobs spelled as fields of AsyncEngineArgs instead of flags."""
    return tuple(replace(rule, accuses=tuple(name.replace("-", "_") for name in rule.accuses)) for rule in rules)


def _reloadable(knobs: tuple[Knob, ...]) -> tuple[Knob, ...]:
    return tuple(replace(knob, cost="reload") for knob in knobs)


def _as_fields(knobs: tuple[Knob, ...]) -> tuple[Knob, ...]:
    return tuple(
        replace(
            knob,
            name=knob.name.replace("-", "_"),
            requires={name.replace("-", "_"): values for name, values in knob.requires.items()},
        )
        for knob in knobs
    )


def _vllm_conflict(params: Mapping[str, Value]) -> str | None:
    return vllm_conflict({name.replace("_", "-"): value for name, value in params.items()})


LLM_API = Backend(
    "llmapi",
    "python",
    "1/model.yaml",
    _reloadable(knobs_of("")),
    (*TRTLLM_FAILURES, *SERVER_FAILURES),
    trtllm_conflict,
)
ENGINES = Backend("tensorrtllm", "tensorrtllm", "", ENGINE_KNOBS, (*_ENGINE_FAILURES, *SERVER_FAILURES))
VLLM = Backend(
    "vllm",
    "vllm",
    "1/model.json",
    _reloadable(_as_fields(VLLM_KNOBS)),
    (*_underscored(VLLM_FAILURES), *SERVER_FAILURES),
    _vllm_conflict,
)
