"""What cannot work is never started: parallelism against GPUs and heads, weights and KV cache against memory, lengths.

Each rule is judged for many configurations at once, and says in words what is wrong and which knobs to move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from engines.models import Precision
from tuner.search.memory_estimate import DEFAULT_TOKEN_BUDGET, MemoryEstimate, estimate_memory
from tuner.search.problem import Meaning
from tuner.search.settings import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engines.knob import Value
    from engines.models import Checkpoint
    from tuner.search.problem import Hardware, WorkloadShape
    from tuner.search.settings import Settings, SettingsReader

_GB: Final = 1e9
_DOUBT_BYTES: Final = 0.03e9
"""What the estimate may be off by without a rejection: a wrong one would hide a good configuration for good."""

_CAPABILITY: Final = {Precision.FP8: (8, 9), Precision.NVFP4: (10, 0)}
"""First compute capability with tensor cores for a type (contract trtllm 5.6)."""

_WEIGHTS_ALONE: Final = (8, 0)
"""First compute capability on which vLLM and SGLang have kernels that take such weights with 16-bit activations (Marlin);
TensorRT-LLM has none."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a configuration is not started.

    Attributes:
        reason: In words.
        accused: Knobs to move, most likely first.
    """

    reason: str
    accused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at: configurations against host, model and load."""

    settings: Settings
    memory: MemoryEstimate
    hardware: Hardware
    checkpoint: Checkpoint
    workload: WorkloadShape | None

    def column(self, meaning: Meaning, default: float = 1.0) -> NDArray[np.float64]:
        """A column of the settings."""
        return self.settings.get(meaning, default)

    @property
    def gpus(self) -> NDArray[np.float64]:
        """GPUs each configuration needs."""
        return (
            self.column(Meaning.TENSOR_PARALLEL)
            * self.column(Meaning.PIPELINE_PARALLEL)
            * self.column(Meaning.REPLICAS)
        )

    @property
    def longest(self) -> float:
        """Tokens of the longest sequence; 1 when the load is unknown."""
        return self.workload.longest_sequence_tokens if self.workload else 1.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that cannot work.

    Attributes:
        broken: Which configurations break it.
        text: What is wrong, for the first configuration.
        accuses: What to move.
    """

    broken: Callable[[Facts], NDArray[np.bool_]]
    text: Callable[[Facts], str]
    accuses: tuple[Meaning, ...]


def _unsupported(facts: Facts) -> NDArray[np.bool_]:
    capability = facts.hardware.gpu.compute_capability
    if capability >= _WEIGHTS_ALONE and facts.settings.has(Meaning.TOTAL_MEMORY_SHARE):
        return np.zeros(facts.settings.rows, dtype=np.bool_)  # vLLM and SGLang
    missing = [place for place, kind in enumerate(PRECISIONS) if capability < _CAPABILITY.get(kind, (0, 0))]
    return np.isin(facts.column(Meaning.WEIGHT_PRECISION, 0), missing)


def _experts_do_not_divide(facts: Facts) -> NDArray[np.bool_]:
    experts = facts.checkpoint.shape.experts
    uneven: NDArray[np.bool_] = (experts > 1) & (experts % facts.column(Meaning.EXPERT_PARALLEL) != 0)
    return uneven


def _budget_is_too_small(facts: Facts) -> NDArray[np.bool_]:
    if facts.workload is None:
        return np.zeros(facts.settings.rows, dtype=np.bool_)
    budget = facts.column(Meaning.TOKEN_BUDGET, np.inf)
    whole = facts.column(Meaning.CHUNKED, 1) == 0
    refused: NDArray[np.bool_] = whole & (budget < facts.workload.longest_prompt_tokens)
    return refused


_PARALLEL = (Meaning.TENSOR_PARALLEL, Meaning.PIPELINE_PARALLEL, Meaning.REPLICAS)
_KV = (Meaning.FREE_MEMORY_SHARE, Meaning.TOTAL_MEMORY_SHARE, Meaning.TOKEN_BUDGET, Meaning.KV_PRECISION)

RULES: Final = (
    Rule(
        lambda facts: facts.gpus > facts.hardware.gpu_count,
        lambda facts: f"needs {facts.gpus[0]:.0f} GPUs and there are {facts.hardware.gpu_count}",
        _PARALLEL,
    ),
    Rule(
        lambda facts: facts.checkpoint.shape.attention_heads % facts.column(Meaning.TENSOR_PARALLEL) != 0,
        lambda facts: (
            f"{facts.checkpoint.shape.attention_heads} attention heads cannot be shared out over"
            f" {facts.column(Meaning.TENSOR_PARALLEL)[0]:.0f} GPUs"
        ),
        (Meaning.TENSOR_PARALLEL,),
    ),
    Rule(
        lambda facts: facts.column(Meaning.PIPELINE_PARALLEL) > facts.checkpoint.shape.layers,
        lambda facts: f"more pipeline stages than the model's {facts.checkpoint.shape.layers} layers",
        (Meaning.PIPELINE_PARALLEL,),
    ),
    Rule(
        _experts_do_not_divide,
        lambda facts: (
            f"{facts.checkpoint.shape.experts} experts cannot be dealt out evenly over"
            f" {facts.column(Meaning.EXPERT_PARALLEL)[0]:.0f} GPUs"
        ),
        (Meaning.EXPERT_PARALLEL,),
    ),
    Rule(
        _unsupported,
        lambda facts: (
            f"{facts.hardware.gpu.product_name} has no tensor cores for"
            f" {PRECISIONS[int(facts.column(Meaning.WEIGHT_PRECISION, 0)[0])]}"
        ),
        (Meaning.WEIGHT_PRECISION,),
    ),
    Rule(
        lambda facts: facts.memory.free_bytes <= 0,
        lambda facts: (
            f"weights of {facts.memory.weight_bytes[0] / _GB:.1f} GB a GPU and the activations of a full token budget do"
            f" not fit into {facts.hardware.gpu.hbm_bytes / _GB:.1f} GB"
        ),
        (Meaning.TENSOR_PARALLEL, Meaning.PIPELINE_PARALLEL, Meaning.WEIGHT_PRECISION, Meaning.TOKEN_BUDGET),
    ),
    Rule(
        lambda facts: facts.memory.spare_bytes < -_DOUBT_BYTES,
        lambda facts: (
            f"the KV cache's share leaves {-facts.memory.spare_bytes[0] / _GB:.2f} GB too little for what the server"
            " allocates after it"
        ),
        (Meaning.FREE_MEMORY_SHARE, Meaning.TOTAL_MEMORY_SHARE, Meaning.BATCH),
    ),
    Rule(
        lambda facts: facts.memory.kv_tokens < facts.longest,
        lambda facts: (
            f"the KV cache holds about {facts.memory.kv_tokens[0]:.0f} tokens and the longest request needs"
            f" {facts.longest:.0f}"
        ),
        _KV,
    ),
    Rule(
        lambda facts: facts.column(Meaning.SEQUENCE, np.inf) < facts.longest,
        lambda facts: (
            f"takes {facts.column(Meaning.SEQUENCE)[0]:.0f} tokens a request and the longest needs {facts.longest:.0f}"
        ),
        (Meaning.SEQUENCE,),
    ),
    Rule(
        _budget_is_too_small,
        lambda facts: (
            f"without chunked prefill prompts longer than the token budget of"
            f" {facts.column(Meaning.TOKEN_BUDGET, DEFAULT_TOKEN_BUDGET)[0]:.0f} are refused"
        ),
        (Meaning.CHUNKED, Meaning.TOKEN_BUDGET),
    ),
)
"""Contract trtllm 5.8, points 1 to 3 and 6, and its section 8.1 on memory."""


class Feasibility:
    """Judges configurations for one model on one host under one load."""

    def __init__(
        self,
        hardware: Hardware,
        checkpoint: Checkpoint,
        workload: WorkloadShape | None,
        reader: SettingsReader,
    ) -> None:
        """Note what configurations are held against.

        Args:
            hardware: The GPUs there are.
            checkpoint: The model.
            workload: The load; None: lengths are not judged.
            reader: Reads configurations.
        """
        self._hardware = hardware
        self._checkpoint = checkpoint
        self._workload = workload
        self._reader = reader

    def mask(self, settings: Settings) -> NDArray[np.bool_]:
        """Which of many configurations may work."""
        facts = self._facts(settings)
        works: NDArray[np.bool_] = ~np.logical_or.reduce([rule.broken(facts) for rule in RULES])
        return works

    def rejection(self, params: Mapping[str, Value]) -> Rejection | None:
        """Why a configuration cannot work, or None."""
        facts = self._facts(self._reader.of_params([params]))
        for rule in RULES:
            if rule.broken(facts)[0]:
                names = self._reader.names
                return Rejection(rule.text(facts), tuple(names[each] for each in rule.accuses if each in names))
        return None

    def _facts(self, settings: Settings) -> Facts:
        memory = estimate_memory(settings, self._checkpoint.shape, self._hardware)
        return Facts(settings, memory, self._hardware, self._checkpoint, self._workload)
