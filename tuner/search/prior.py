"""A hint at what a configuration will reach, before anything is measured: a roofline of a continuous-batching server.

It knows the GPU's data sheet, the model's shape and the load, and rules of thumb for what servers reach of it. It orders
configurations; what it says is never shown as a result. The search corrects it with every measurement. Its step times are its own:
it shares with the simulated engine the tables of GPUs and models, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from engines.models import Precision
from tuner.search.memory_estimate import DEFAULT_BATCH, DEFAULT_GRAPH_BATCH, element_bytes, estimate_memory
from tuner.search.problem import Meaning
from tuner.search.settings import PRECISIONS
from tuner.search.utility import Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.gpu.hardware import GpuSpec
    from engines.models import Checkpoint
    from tuner.search.objective import Objective
    from tuner.search.problem import Hardware, WorkloadShape
    from tuner.search.settings import Settings

    Array = NDArray[np.float64]
    Estimates = dict[tuple[str, str], Array]

_COMPUTE_SHARE: Final = 0.55
"""Share of the tensor peak that large matrix products reach in practice."""

_BANDWIDTH_SHARE: Final = 0.75
_LAYER_S: Final = 40e-6
"""Small kernels of a layer that no roofline shows."""

_EAGER_LAYER_S: Final = 200e-6
"""Launching a layer's kernels from the host, without a CUDA graph."""

_HOST_S: Final = 1.5e-3
_HOST_PER_REQUEST_S: Final = 40e-6
_NVLINK_S: Final = 10e-6
_PCIE_S: Final = 40e-6
"""Latency of one all-reduce."""

_STAGE_S: Final = 50e-6
_CLIENT_S: Final = 4e-3
_LINK_SHARE: Final = 0.7
_TAIL: Final = 1.25
"""Rule of thumb: 99th percentile of the time per token over its mean."""

THROUGHPUTS: Final = (
    "output_token_throughput",
    "total_token_throughput",
    "input_token_throughput",
    "request_throughput",
)
LATENCIES: Final = ("ttft", "tpot", "itl", "e2e")


def tensor_flops_per_s(gpu: GpuSpec) -> Array:
    """Dense tensor rate by precision; weight-only formats, and types the GPU lacks, compute in BF16."""
    rates = {
        Precision.FP8: gpu.fp8_flops_per_s,
        Precision.NVFP4: gpu.fp4_flops_per_s,
        Precision.INT8: 2 * gpu.bf16_flops_per_s,
    }
    return np.array([rates.get(precision) or gpu.bf16_flops_per_s for precision in PRECISIONS])


class Roofline:
    """Estimates for one model on one host under one load."""

    def __init__(self, hardware: Hardware, checkpoint: Checkpoint, workload: WorkloadShape) -> None:
        """Note what is served where.

        Args:
            hardware: The GPUs.
            checkpoint: The model.
            workload: The load and its levels.
        """
        self._hardware = hardware
        self._shape = checkpoint.shape
        self._workload = workload

    def covers(self, objective: Objective) -> bool:
        """Whether the objective is something a roofline can tell."""
        metric = objective.metric.removesuffix("_per_gpu")
        return metric in (*THROUGHPUTS, *LATENCIES, "goodput", "output_token_throughput_per_user")

    def utility(self, settings: Settings, objective: Objective) -> Array:
        """What each configuration is worth by the estimate, on the search's own scale (`utility.py`)."""
        best: Array = self.level_utilities(settings, objective).max(axis=1)
        return best

    def level_utilities(self, settings: Settings, objective: Objective) -> Array:
        """The same at each level; a row per configuration, a column per level."""
        return _utilities(self.estimate(settings), objective)

    def best_level(self, settings: Settings, objective: Objective) -> Array:
        """The load at which each configuration is expected to be at its best within the SLOs."""
        estimates = self.estimate(settings)
        chosen = _utilities(estimates, objective).argmax(axis=1)
        levels: Array = np.array(self._workload.levels, dtype=np.float64)[chosen]
        return levels

    def estimate(self, settings: Settings) -> Estimates:
        """Metrics by name and statistic; a row per configuration, a column per level."""
        load = self._workload
        isl, osl = load.input_tokens, load.output_tokens
        replicas = settings.get(Meaning.REPLICAS, 1)[:, None]
        asked = np.array(load.levels, dtype=np.float64)[None, :] / replicas
        pp = settings.get(Meaning.PIPELINE_PARALLEL, 1)[:, None]
        running = self._running(settings, asked, pp)
        batch = np.maximum(running / pp, 1.0)
        step_s = self._decode_s(settings, batch)
        prefill_s = self._prefill_s(settings)
        # While a request decodes its output, each of its neighbours is prefilled once.
        cycle_s = osl * step_s + batch * prefill_s
        rate = running * osl / (cycle_s * pp + _CLIENT_S) * replicas
        tpot_s = cycle_s * pp / osl
        busy = np.minimum(batch * prefill_s / cycle_s, 0.95)
        queue_s = np.maximum(asked / running - 1, 0.0) * cycle_s * pp
        begin_s = _CLIENT_S + queue_s + pp * (0.5 * step_s + prefill_s * (1 + busy))
        gpus = settings.get(Meaning.TENSOR_PARALLEL, 1)[:, None] * pp * replicas
        late_s = begin_s + pp * (step_s + prefill_s * (1 + 4 * busy))
        estimates: Estimates = {
            ("output_token_throughput", "avg"): rate,
            ("input_token_throughput", "avg"): rate * isl / osl,
            ("total_token_throughput", "avg"): rate * (isl + osl) / osl,
            ("request_throughput", "avg"): rate / osl,
            ("goodput", "avg"): rate / osl,
            ("output_token_throughput_per_user", "avg"): 1 / tpot_s,
            ("ttft", "avg"): begin_s * 1e3,
            ("ttft", "p99"): late_s * 1e3,
            ("tpot", "avg"): tpot_s * 1e3,
            ("tpot", "p99"): tpot_s * _TAIL * 1e3,
            ("itl", "avg"): tpot_s * 1e3,
            ("itl", "p99"): (step_s + prefill_s) * pp * 1e3,
            ("e2e", "avg"): (begin_s + tpot_s * osl) * 1e3,
            ("e2e", "p99"): (late_s + tpot_s * osl * _TAIL) * 1e3,
        }
        per_gpu = {(f"{name}_per_gpu", stat): value / gpus for (name, stat), value in estimates.items()}
        return {**estimates, **per_gpu}

    def _running(self, settings: Settings, asked: Array, pp: Array) -> Array:
        """Requests that run at once: as many as are asked for, allowed, and held by the KV cache."""
        load = self._workload
        memory = estimate_memory(settings, self._shape, self._hardware)
        evicting = settings.get(Meaning.POLICY, 0) > 0
        held_tokens = load.input_tokens + load.output_tokens * np.where(evicting, 0.7, 1.0)
        alone = settings.get(Meaning.ATTENTION_DP, 0) > 0
        ranks = np.where(alone, settings.get(Meaning.TENSOR_PARALLEL, 1), 1.0)[:, None]
        limit = settings.get(Meaning.BATCH, DEFAULT_BATCH)[:, None] * pp * ranks
        fits = np.maximum(memory.kv_tokens / held_tokens, 1.0)[:, None]
        running: Array = np.maximum(np.minimum(np.minimum(asked, limit), fits), 1e-3)
        return running

    def _decode_s(self, settings: Settings, batch: Array) -> Array:
        """One decode step of one pipeline stage."""
        shape, gpu = self._shape, self._hardware.gpu
        tp = settings.get(Meaning.TENSOR_PARALLEL, 1)[:, None]
        pp = settings.get(Meaning.PIPELINE_PARALLEL, 1)[:, None]
        precision = settings.get(Meaning.WEIGHT_PRECISION, 0)
        expert = shape.layers * shape.experts * shape.mlp_parameters_per_layer
        touched = 1.0 - (1.0 - shape.experts_per_token / shape.experts) ** batch if shape.experts > 1 else 1.0
        parameters = shape.linear_parameters - expert + expert * touched
        head = shape.vocab_size * shape.hidden_size * 2.0
        weight_bytes = (parameters * element_bytes(precision)[:, None] + head) / (tp * pp)
        rate = gpu.hbm_bytes_per_s * _BANDWIDTH_SHARE
        memory = estimate_memory(settings, shape, self._hardware)
        context = self._workload.input_tokens + self._workload.output_tokens / 2
        kv_s = batch * context * memory.kv_bytes_per_token[:, None] / rate
        flops = tensor_flops_per_s(gpu)[precision.astype(np.int64)][:, None] * _COMPUTE_SHARE
        compute_s = 2 * shape.active_linear_parameters * batch / (tp * pp) / flops
        gpu_s = np.maximum(weight_bytes / rate, compute_s) + kv_s + shape.layers / pp * _LAYER_S
        gpu_s = gpu_s + self._links_s(tp, pp, batch)
        launch_s = self._eager(settings, batch) * shape.layers / pp * _EAGER_LAYER_S
        step_s: Array = np.maximum(gpu_s, launch_s + _HOST_S + batch * _HOST_PER_REQUEST_S)
        return step_s

    def _prefill_s(self, settings: Settings) -> Array:
        """One prompt through one pipeline stage, beyond what decoding would have cost meanwhile."""
        shape, gpu, isl = self._shape, self._hardware.gpu, self._workload.input_tokens
        tp = settings.get(Meaning.TENSOR_PARALLEL, 1)[:, None]
        pp = settings.get(Meaning.PIPELINE_PARALLEL, 1)[:, None]
        precision = settings.get(Meaning.WEIGHT_PRECISION, 0).astype(np.int64)
        flops = tensor_flops_per_s(gpu)[precision][:, None] * _COMPUTE_SHARE
        linear_s = 2 * shape.active_linear_parameters * isl / (tp * pp) / flops
        pairs = isl * isl / 2 * 4 * shape.attention_heads * shape.head_dim * shape.layers
        attention_s = pairs / (tp * pp) / (gpu.bf16_flops_per_s * 0.4)
        prefill_s: Array = linear_s + attention_s + self._links_s(tp, pp, np.full_like(tp, isl))
        return prefill_s

    def _links_s(self, tp: Array, pp: Array, tokens: Array) -> Array:
        """Two all-reduces a layer among the tensor-parallel GPUs, and the hand-over between stages."""
        shape, gpu = self._shape, self._hardware.gpu
        latency = _NVLINK_S if gpu.has_nvlink else _PCIE_S
        sent = tokens * shape.hidden_size * 2.0 * 2 * (tp - 1) / tp
        reduce_s = latency + sent / (gpu.link_bytes_per_s / 2 * _LINK_SHARE)
        links_s: Array = np.where(tp > 1, 2 * shape.layers / pp * reduce_s, 0.0) + np.where(pp > 1, _STAGE_S, 0.0)
        return links_s

    def _eager(self, settings: Settings, batch: Array) -> Array:
        """Share of the decode steps that no CUDA graph covers.

        Steps with a prompt in them are never captured; without padding a batch above 32 rarely has a captured size
        (contract trtllm 5.4).
        """
        on = (settings.get(Meaning.GRAPHS, 1) > 0) & (settings.get(Meaning.EAGER, 0) == 0)
        largest = settings.get(Meaning.GRAPH_BATCH, DEFAULT_GRAPH_BATCH)[:, None]
        padded = settings.get(Meaning.GRAPH_PADDING, 0)[:, None] > 0
        covered = on[:, None] & (batch <= largest) & (padded | (batch <= 32))
        mixed = np.minimum(batch / max(self._workload.output_tokens, 1.0), 1.0)
        eager: Array = np.where(covered, mixed, 1.0)
        return eager


def _utilities(estimates: Estimates, objective: Objective) -> Array:
    """Utility of every configuration at every level."""
    values = _of(estimates, objective.metric, objective.stat)
    violation = np.zeros_like(values)
    for slo in objective.slos:
        if (slo.metric, "avg") in estimates and slo.value > 0:
            reached = np.maximum(_of(estimates, slo.metric, slo.stat), 1e-9)
            over = reached / slo.value - 1 if slo.op in ("<=", "<") else slo.value / reached - 1
            violation = np.maximum(violation, over)
    return Scale.of(values, objective.direction).utility(values, violation)


def _of(estimates: Estimates, metric: str, stat: str) -> Array:
    """The estimate nearest to a statistic: tails for high percentiles, the mean for everything else."""
    tail = (metric, "p99")
    if stat in ("p90", "p95", "p99", "max") and tail in estimates:
        return estimates[tail]
    return estimates[metric, "avg"]
