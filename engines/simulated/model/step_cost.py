"""How long one pass through the model takes: rooflines, launch overheads and links.

The efficiencies were fitted to one H200 serving an 8B model in BF16 and FP8 (``benchmarks/simulated`` prints the errors);
other GPUs reuse them with their own data sheet peaks, which nothing here proves.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engines.models import BYTES_PER_ELEMENT, Checkpoint, Precision
from engines.simulated.model.config import ConfigurationError, EngineConfig
from engines.simulated.model.memory import kv_precision

if TYPE_CHECKING:
    from engines.gpu.hardware import GpuSpec
    from engines.simulated.model.scheduler import MicroBatch

_PREFILL_MFU: Final[dict[Precision, float]] = {
    Precision.BF16: 0.63,
    Precision.FP8: 0.49,
    Precision.INT4_AWQ: 0.52,
    Precision.NVFP4: 0.42,
    Precision.INT8: 0.49,
}
"""Share of the dense tensor peak that large matrix products reach, power limit included."""

_SMALL_GEMM_TOKENS: Final = 48.0
"""Tokens at which a matrix product reaches half of its large-batch efficiency."""

_WEIGHT_MBU: Final = 0.84
"""Share of peak memory bandwidth that reading weights reaches."""

_KV_MBU: Final = 0.72
"""The same for paged attention reading the KV cache."""

_ATTENTION_MFU: Final = 0.42
"""Share of the BF16 peak that causal prefill attention reaches."""

_LAYER_MS: Final = 0.031
"""Small kernels of one layer (norms, rotary, quantise, cache write) inside a CUDA graph."""

_EAGER_LAUNCH_MS: Final = 0.30
"""Host time to launch one layer's kernels without a CUDA graph."""

_SAMPLING_MS: Final = 0.10
_SAMPLING_PER_REQUEST_MS: Final = 0.009
_HOST_STEP_MS: Final = 1.3
"""Host work of one iteration: scheduling, input preparation, bookkeeping."""

_HOST_PER_REQUEST_MS: Final = 0.016
_HOST_PER_RESPONSE_MS: Final = 0.030
_NVLINK_ALLREDUCE_MS: Final = 0.0085
_PCIE_ALLREDUCE_MS: Final = 0.040
_LINK_EFFICIENCY: Final = 0.70
_STAGE_HANDOVER_MS: Final = 0.06

_MS: Final = 1e3


class UnsupportedPrecisionError(ConfigurationError):
    """The GPU has no tensor cores for the checkpoint's type."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Time and traffic of one micro-batch on one pipeline stage.

    Attributes:
        gpu_ms: time the GPU is busy.
        host_ms: time the host needs to prepare and to launch.
        duration_ms: time until the next micro-batch may start.
        flops: floating point operations on one GPU.
        tensor_ms: time the tensor cores would need at their peak.
        hbm_bytes: bytes moved from and to one GPU's memory.
        link_bytes: bytes sent to peers by one GPU.
        captured_graph: whether a CUDA graph was replayed.
    """

    gpu_ms: float
    host_ms: float
    duration_ms: float
    flops: float
    tensor_ms: float
    hbm_bytes: float
    link_bytes: float
    captured_graph: bool


def _tensor_peak(gpu: GpuSpec, precision: Precision) -> float:
    """Return the tensor rate of matrix products: twice BF16's for INT8; weight-only formats compute in BF16."""
    if precision is Precision.FP8:
        if gpu.fp8_flops_per_s is None:
            raise UnsupportedPrecisionError(_unsupported("FP8", gpu))
        return gpu.fp8_flops_per_s
    if precision is Precision.NVFP4:
        if gpu.fp4_flops_per_s is None:
            raise UnsupportedPrecisionError(_unsupported("NVFP4", gpu))
        return gpu.fp4_flops_per_s
    return gpu.bf16_flops_per_s * (2 if precision is Precision.INT8 else 1)


def _unsupported(precision: str, gpu: GpuSpec) -> str:
    major, minor = gpu.compute_capability
    return f"{precision} is not supported on SM{major}{minor} ({gpu.product_name})"


class StepCostModel:
    """Prices micro-batches for one configuration of one model on one GPU type."""

    def __init__(
        self, config: EngineConfig, checkpoint: Checkpoint, gpu: GpuSpec, graph_sizes: tuple[int, ...]
    ) -> None:
        shape, weights = checkpoint.shape, checkpoint.weight_precision
        tp, pp = config.tensor_parallel_size, config.pipeline_parallel_size
        self._config = config
        self._shape = shape
        self._graph_sizes = graph_sizes
        self._padding = config.cuda_graphs.enable_padding if config.cuda_graphs else False
        self._layers = shape.layers / pp
        shards = tp * pp

        self._peak = _tensor_peak(gpu, weights)
        self._linear_rate = self._peak * _PREFILL_MFU[weights]
        self._attention_rate = gpu.bf16_flops_per_s * _ATTENTION_MFU
        self._flops_per_token = 2.0 * shape.active_linear_parameters / shards
        self._flops_per_logits = 2.0 * shape.vocab_size * shape.hidden_size / shards
        self._flops_per_pair = 4.0 * shape.attention_heads * shape.head_dim * shape.layers / shards
        self._logits_rate = gpu.bf16_flops_per_s * _PREFILL_MFU[Precision.BF16]

        element = BYTES_PER_ELEMENT[weights]
        expert_parameters = shape.layers * shape.mlp_parameters_per_layer * shape.experts
        self._expert_bytes = expert_parameters * element / shards
        self._dense_bytes = (shape.linear_parameters - expert_parameters) * element / shards
        self._dense_bytes += shape.vocab_size * shape.hidden_size * 2.0 / shards
        self._weight_rate = gpu.hbm_bytes_per_s * _WEIGHT_MBU
        replicas = max(1.0, tp / shape.kv_heads)
        self._kv_bytes = shape.kv_bytes_per_token(kv_precision(config, checkpoint)) * replicas / shards
        self._kv_rate = gpu.hbm_bytes_per_s * _KV_MBU
        self._activation_bytes = 24.0 * shape.hidden_size * shape.layers / shards

        self._allreduces = 2 * self._layers if tp > 1 else 0.0
        base = _NVLINK_ALLREDUCE_MS if gpu.has_nvlink else _PCIE_ALLREDUCE_MS
        self._allreduce_ms = base * (1 + 0.15 * (tp - 2)) if tp > 1 else 0.0
        one_way = gpu.link_bytes_per_s / 2 * _LINK_EFFICIENCY
        self._allreduce_bytes = shape.hidden_size * 2.0 * 2 * (tp - 1) / tp
        self._link_rate = one_way
        self._handover_bytes = shape.hidden_size * 2.0 / tp if pp > 1 else 0.0

    def price(self, batch: MicroBatch) -> StepCost:
        """Return what this micro-batch costs on one pipeline stage; zero for an empty one."""
        requests = batch.requests
        if not requests:
            return StepCost(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False)
        captured = self._captured_size(batch)
        tokens = batch.context_tokens + (captured or len(batch.decoding))

        linear_ms, flops, weight_bytes = self._linear(tokens, requests)
        attention_flops = batch.context_pairs * self._flops_per_pair
        kv_bytes = (batch.generation_kv_tokens + batch.context_kv_tokens) * self._kv_bytes
        attention_ms = (attention_flops / self._attention_rate + kv_bytes / self._kv_rate) * _MS
        link_bytes = tokens * (self._allreduces * self._allreduce_bytes + self._handover_bytes)
        link_ms = self._allreduces * self._allreduce_ms + link_bytes / self._link_rate * _MS
        if self._handover_bytes:
            link_ms += _STAGE_HANDOVER_MS
        small_ms = self._layers * _LAYER_MS + _SAMPLING_MS + requests * _SAMPLING_PER_REQUEST_MS
        gpu_ms = linear_ms + attention_ms + link_ms + small_ms

        host_ms = self._host_ms(batch)
        launch_ms = 0.0 if captured else self._layers * _EAGER_LAUNCH_MS
        busy_ms = max(gpu_ms, launch_ms)
        if self._config.overlap_scheduler or self._config.pipeline_parallel_size > 1:
            duration_ms = max(gpu_ms, host_ms + launch_ms)
        else:
            duration_ms = busy_ms + host_ms
        activation_bytes = tokens * self._activation_bytes
        return StepCost(
            gpu_ms=gpu_ms,
            host_ms=host_ms + launch_ms,
            duration_ms=duration_ms,
            flops=flops + attention_flops,
            tensor_ms=(flops / self._peak + attention_flops / self._attention_rate * _ATTENTION_MFU) * _MS,
            hbm_bytes=weight_bytes + kv_bytes + activation_bytes,
            link_bytes=link_bytes,
            captured_graph=captured > 0,
        )

    def _captured_size(self, batch: MicroBatch) -> int:
        """Return the graph size a batch replays, 0 when it runs eagerly: only pure decode batches are captured."""
        decoding = len(batch.decoding)
        if batch.prefilling or not self._graph_sizes:
            return 0
        index = bisect_left(self._graph_sizes, decoding)
        if index == len(self._graph_sizes):
            return 0
        size = self._graph_sizes[index]
        return size if size == decoding or self._padding else 0

    def _linear(self, tokens: int, requests: int) -> tuple[float, float, float]:
        """Return time, operations and weight traffic of all matrix products."""
        flops = tokens * self._flops_per_token
        logits_flops = requests * self._flops_per_logits
        efficiency = tokens / (tokens + _SMALL_GEMM_TOKENS)
        compute_s = flops / (self._linear_rate * efficiency) + logits_flops / self._logits_rate
        weight_bytes = self._dense_bytes + self._expert_bytes * self._expert_share(tokens)
        memory_s = weight_bytes / self._weight_rate
        # Neither limit is sharp: tiles waiting for weights and weights waiting for tiles add up near the crossing.
        seconds = float((compute_s**4 + memory_s**4) ** 0.25)
        return seconds * _MS, flops + logits_flops, weight_bytes

    def _expert_share(self, tokens: int) -> float:
        """Return the share of the experts that at least one of the tokens uses, with even routing."""
        shape = self._shape
        if shape.experts == 1:
            return 1.0
        return 1.0 - (1.0 - shape.experts_per_token / shape.experts) ** tokens

    def _host_ms(self, batch: MicroBatch) -> float:
        responses = len(batch.decoding) / self._config.stream_interval + len(batch.prefilling)
        return _HOST_STEP_MS + batch.requests * _HOST_PER_REQUEST_MS + responses * _HOST_PER_RESPONSE_MS
