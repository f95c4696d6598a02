"""What a search may know beforehand: the hardware, the load, and which knob means what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from engines.gpu.hardware import GpuSpec
    from tuner.search.objective import Objective
    from tuner.search.settings import Settings


@dataclass(frozen=True, slots=True)
class Hardware:
    """The GPUs a server may use.

    Attributes:
        gpu: Type of every GPU.
        gpu_count: How many there are.
    """

    gpu: GpuSpec
    gpu_count: int = 1


@dataclass(frozen=True, slots=True)
class WorkloadShape:
    """What the load asks of the server, as far as an estimate needs it.

    Attributes:
        input_tokens: Mean prompt length (ISL).
        output_tokens: Mean answer length (OSL).
        levels: Loads a trial is measured at, lightest first: concurrent requests.
        longest_input_tokens: Longest prompt; 0: as the mean.
        longest_output_tokens: Longest answer; 0: as the mean.
    """

    input_tokens: float
    output_tokens: float
    levels: tuple[float, ...] = (32.0,)
    longest_input_tokens: int = 0
    longest_output_tokens: int = 0

    @property
    def longest_prompt_tokens(self) -> float:
        """Longest prompt, never below the mean."""
        return max(self.longest_input_tokens, self.input_tokens)

    @property
    def longest_sequence_tokens(self) -> float:
        """Longest prompt and longest answer together."""
        return self.longest_prompt_tokens + max(self.longest_output_tokens, self.output_tokens)


class Meaning(StrEnum):
    """What a knob stands for, whatever a server calls it."""

    TENSOR_PARALLEL = "tensor_parallel"
    PIPELINE_PARALLEL = "pipeline_parallel"
    REPLICAS = "replicas"
    EXPERT_PARALLEL = "expert_parallel"
    ATTENTION_DP = "attention_dp"
    BATCH = "batch"
    TOKEN_BUDGET = "token_budget"  # noqa: S105 - tokens of text
    CHUNKED = "chunked"
    POLICY = "policy"
    FREE_MEMORY_SHARE = "free_memory_share"
    TOTAL_MEMORY_SHARE = "total_memory_share"
    KV_TOKENS = "kv_tokens"
    KV_PRECISION = "kv_precision"
    WEIGHT_PRECISION = "weight_precision"
    GRAPHS = "graphs"
    EAGER = "eager"
    GRAPH_BATCH = "graph_batch"
    GRAPH_PADDING = "graph_padding"
    SEQUENCE = "sequence"


_NAMES: Final[Mapping[Meaning, tuple[str, ...]]] = {
    Meaning.TENSOR_PARALLEL: ("tensor_parallel_size", "tensor_parallel", "tp_size", "tp"),
    Meaning.PIPELINE_PARALLEL: ("pipeline_parallel_size", "pipeline_parallel", "pp_size", "pp"),
    Meaning.REPLICAS: ("replicas", "data_parallel_size", "dp_size", "dp"),
    Meaning.EXPERT_PARALLEL: ("moe_expert_parallel_size", "expert_parallel_size", "ep_size"),
    Meaning.ATTENTION_DP: ("enable_attention_dp", "enable_dp_attention", "attention_dp"),
    Meaning.BATCH: ("max_batch_size", "max_num_seqs", "max_running_requests", "max_concurrent_requests", "parallel"),
    Meaning.TOKEN_BUDGET: ("max_num_tokens", "max_num_batched_tokens", "max_batch_prefill_tokens"),
    Meaning.CHUNKED: ("enable_chunked_prefill", "enable_chunked_context", "chunked_prefill"),
    Meaning.POLICY: ("scheduler_config_capacity_scheduler_policy", "capacity_scheduler_policy", "scheduler_policy"),
    Meaning.FREE_MEMORY_SHARE: (
        "kv_cache_config_free_gpu_memory_fraction",
        "free_gpu_memory_fraction",
        "kv_cache_free_gpu_memory_fraction",
        "cache_max_entry_count",
    ),
    Meaning.TOTAL_MEMORY_SHARE: ("gpu_memory_utilization", "mem_fraction_static"),
    Meaning.KV_TOKENS: ("kv_cache_config_max_tokens", "max_total_tokens"),
    Meaning.KV_PRECISION: ("kv_cache_config_dtype", "kv_cache_dtype", "kv_dtype"),
    Meaning.WEIGHT_PRECISION: ("checkpoint", "model", "quantization", "precision", "weight_precision"),
    Meaning.GRAPHS: ("cuda_graph_config_enabled", "cuda_graphs"),
    Meaning.EAGER: ("enforce_eager", "disable_cuda_graph"),
    Meaning.GRAPH_BATCH: ("cuda_graph_config_max_batch_size", "cuda_graph_max_bs", "max_cudagraph_capture_size"),
    Meaning.GRAPH_PADDING: ("cuda_graph_config_enable_padding", "cuda_graph_padding"),
    Meaning.SEQUENCE: ("max_seq_len", "max_model_len", "context_length"),
}
"""Names of TensorRT-LLM, NIM, vLLM, SGLang, TGI, LMDeploy and llama.cpp, with `-` and `.` as `_` (contracts trtllm 5, others)."""

_BY_NAME: Final = {name: meaning for meaning, names in _NAMES.items() for name in names}


def meaning_of(name: str, own: Mapping[str, Meaning] | None = None) -> Meaning | None:
    """What a knob of that name means; None for a stranger, about which nothing is assumed.

    Args:
        name: As the server writes it.
        own: Meanings that the caller knows; they win.
    """
    if own and name in own:
        return own[name]
    return _BY_NAME.get(name.lower().lstrip("-").replace("-", "_").replace(".", "_"))


class Prior(Protocol):
    """An estimate of what configurations reach, made before they are measured. It may be wrong: it is only a hint.

    One that also has `level_utilities` (as `prior.Roofline` does) is asked for every level when there are several objectives.
    """

    def covers(self, objective: Objective) -> bool:
        """Whether it can tell anything about the objective."""
        ...

    def utility(self, settings: Settings, objective: Objective) -> NDArray[np.float64]:
        """What each configuration is worth, on the scale of `tuner.search.utility`."""
        ...

    def best_level(self, settings: Settings, objective: Objective) -> NDArray[np.float64]:
        """The load at which each configuration is expected to be at its best within the SLOs."""
        ...
