"""The page on ``tritonserver``'s metrics port (triton.md sections 4.1, 5 and 6)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil

from engines.simulated.exposition import Histogram, Labels, head, label_text
from engines.simulated.triton.backends import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines.gpu.hardware import GpuSpec
    from engines.simulated.model import Iteration, Simulation
    from engines.simulated.telemetry import GpuTelemetry
    from engines.simulated.triton.control import LoadedModel

_LENGTHS: Final = (10.0, 50.0, 100.0, 500.0, 1000.0)
_SECONDS: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_DISPATCH_US: Final = 800.0
"""What a decoupled model's ``execute()`` takes; the duration counters of such a model hold nothing else (measured)."""

_FAILURE_REASONS: Final = ("OTHER", "CANCELED", "BACKEND", "REJECTED")

_CORE: Final = (
    ("nv_inference_request_success", "Number of successful inference requests, all batch sizes"),
    ("nv_inference_count", "Number of inferences performed (does not include cached requests)"),
    ("nv_inference_exec_count", "Number of model executions performed (does not include cached requests)"),
)
_DURATIONS: Final = (
    ("nv_inference_request_duration_us", "Cumulative inference request duration"),
    ("nv_inference_queue_duration_us", "Cumulative inference queuing duration"),
    ("nv_inference_compute_infer_duration_us", "Cumulative compute inference duration"),
)


@dataclass(slots=True)
class ModelCounters:
    """What one model counts from its load to its unload."""

    success: int = 0
    duration_us: float = 0.0
    queue_us: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    input_lengths: Histogram = field(default_factory=lambda: Histogram(_LENGTHS))
    output_lengths: Histogram = field(default_factory=lambda: Histogram(_LENGTHS))
    first_token: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    gaps: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    last: Iteration | None = None

    def observe(self, iteration: Iteration) -> None:
        """Count an iteration and the requests it finished."""
        self.last = iteration
        self.output_tokens += len(iteration.emitted)
        for state in iteration.completed:
            first, last = state.first_token_ms, state.last_token_ms
            if first is None or last is None:
                continue
            self.success += 1
            self.prompt_tokens += state.request.prompt_tokens
            self.duration_us += (last - state.arrival_ms) * 1e3
            self.queue_us += ((state.first_scheduled_ms or first) - state.arrival_ms) * 1e3
            self.input_lengths.observe(state.request.prompt_tokens)
            self.output_lengths.observe(state.generated_tokens)
            self.first_token.observe((first - state.arrival_ms) / 1e3)
            if state.generated_tokens > 1:
                mean_s = (last - first) / (state.generated_tokens - 1) / 1e3
                self.gaps.observe(mean_s, state.generated_tokens - 1)

    def inherit(self, old: ModelCounters) -> None:
        """Go on counting where the generation before stopped: an in-place reload keeps the series (measured)."""
        self.success += old.success
        self.duration_us += old.duration_us
        self.queue_us += old.queue_us
        self.prompt_tokens += old.prompt_tokens
        self.output_tokens += old.output_tokens
        self.input_lengths, self.output_lengths = old.input_lengths, old.output_lengths
        self.first_token, self.gaps = old.first_token, old.gaps


class MetricsPage:
    """Everything the metrics port tells."""

    def __init__(self, gpu: GpuSpec, gpu_count: int, telemetry: GpuTelemetry) -> None:
        self._gpu = gpu
        self._gpu_count = gpu_count
        self._telemetry = telemetry

    def render(self, models: Mapping[str, LoadedModel]) -> str:
        """Return the page for the models that serve now."""
        return "\n".join([*self._core(models), *self._host(), *self._gpus(), *_custom(models)]) + "\n"

    def _core(self, models: Mapping[str, LoadedModel]) -> Iterator[str]:
        for name, text in _CORE:
            yield from head(name, "counter", text)
            for model, loaded in models.items():
                yield f"{name}{label_text(_labels(model))} {loaded.counters.success}"
        name = "nv_inference_request_failure"
        yield from head(name, "counter", "Number of failed inference requests, all batch sizes")
        for model in models:
            for reason in _FAILURE_REASONS:
                yield f"{name}{label_text({**_labels(model), 'reason': reason})} 0"
        for name, text in _DURATIONS:
            yield from head(name, "counter", f"{text} in microseconds")
            for model, loaded in models.items():
                yield f"{name}{label_text(_labels(model))} {_duration_us(loaded, name):.0f}"
        name = "nv_inference_pending_request_count"
        yield from head(name, "gauge", "Instantaneous number of pending requests awaiting execution per-model.")
        for model in models:
            yield f"{name}{label_text(_labels(model))} 0"

    def _host(self) -> Iterator[str]:
        memory = psutil.virtual_memory()
        rows = (
            ("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", psutil.cpu_percent() / 100),
            ("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", memory.total),
            ("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", memory.used),
        )
        for name, text, value in rows:
            yield from head(name, "gauge", text)
            yield f"{name} {value}"

    def _gpus(self) -> Iterator[str]:
        now_s = time.monotonic()
        readings = [self._telemetry.read(index, now_s) for index in range(self._gpu_count)]
        gpu, count = self._gpu, self._gpu_count
        rows = (
            (
                "nv_gpu_utilization",
                "gauge",
                "GPU utilization rate [0.0 - 1.0)",
                [r.utilization_ratio for r in readings],
            ),
            ("nv_gpu_memory_total_bytes", "gauge", "GPU total memory, in bytes", [gpu.hbm_bytes] * count),
            ("nv_gpu_memory_used_bytes", "gauge", "GPU used memory, in bytes", [r.memory_used_bytes for r in readings]),
            ("nv_gpu_power_usage", "gauge", "GPU power usage in watts", [r.power_w for r in readings]),
            ("nv_gpu_power_limit", "gauge", "GPU power management limit in watts", [gpu.power_limit_w] * count),
            (
                "nv_energy_consumption",
                "counter",
                "GPU energy in joules since the start",
                [r.energy_j for r in readings],
            ),
        )
        for name, kind, text, values in rows:
            yield from head(name, kind, text)
            for index, value in enumerate(values):
                yield f"{name}{label_text({'gpu_uuid': f'GPU-simulated-{index}'})} {float(value)}"


def _labels(model: str) -> Labels:
    return {"model": model, "version": "1"}


def _duration_us(loaded: LoadedModel, name: str) -> float:
    counters = loaded.counters
    if loaded.backing.kind is not Kind.ENGINE:
        return 0.0 if "queue" in name else counters.success * _DISPATCH_US
    return counters.queue_us if "queue" in name else counters.duration_us


def _custom(models: Mapping[str, LoadedModel]) -> Iterator[str]:
    """Yield the families of the models' own backends; the LLM API has none."""
    for model, loaded in models.items():
        if loaded.engine is None or not loaded.backing.reports_metrics:
            continue
        if loaded.backing.kind is Kind.ENGINE:
            yield from _engine_families(model, loaded, loaded.engine.simulation)
        else:
            yield from _vllm_families(model, loaded)


def _engine_families(model: str, loaded: LoadedModel, simulation: Simulation) -> Iterator[str]:
    kv, last, labels = simulation.kv, loaded.counters.last, _labels(model)
    running, waiting = simulation.running_requests, simulation.waiting_requests
    families: tuple[tuple[str, str, dict[str, float]], ...] = (
        (
            "nv_trt_llm_request_metrics",
            "request_type",
            {
                "active": running + waiting,
                "max": simulation.config.max_batch_size,
                "scheduled": running,
                "context": last.context_requests if last and running else 0,
                "waiting": waiting,
            },
        ),
        (
            "nv_trt_llm_runtime_memory_metrics",
            "memory_type",
            {"cpu": 0, "gpu": simulation.plan.used_bytes, "pinned": 0},
        ),
        (
            "nv_trt_llm_kv_cache_block_metrics",
            "kv_cache_block_type",
            {
                "max": kv.max_blocks,
                "free": kv.free_blocks,
                "used": kv.used_blocks,
                "tokens_per": kv.tokens_per_block,
                "reused": kv.reused_blocks,
                "fraction": kv.used_blocks / kv.max_blocks,
            },
        ),
        (
            "nv_trt_llm_inflight_batcher_metrics",
            "inflight_batcher_specific_metric",
            {
                "total_context_tokens": last.context_tokens if last and running else 0,
                "generation_requests": last.generation_requests if last and running else 0,
                "micro_batch_id": last.micro_batch_id if last else 0,
                "paused_requests": last.paused_requests if last else 0,
            },
        ),
        (
            "nv_trt_llm_general_metrics",
            "general_type",
            {"timestamp": time.time() * 1e6, "iteration_counter": last.index + 1 if last else 0},
        ),
    )
    for name, label, values in families:
        yield from head(name, "gauge", name.removeprefix("nv_").replace("_", " "))
        for kind, value in values.items():
            yield f"{name}{label_text({**labels, label: kind})} {float(value)}"
    lengths = (
        ("nv_llm_input_token_len", "total_input_tokens", loaded.counters.input_lengths),
        ("nv_llm_output_token_len", "total_output_tokens", loaded.counters.output_lengths),
    )
    for name, kind, histogram in lengths:
        yield from head(name, "histogram", name.removeprefix("nv_").replace("_", " "))
        yield from histogram.lines(name, {**labels, "response_metric_type": kind})


def _vllm_families(model: str, loaded: LoadedModel) -> Iterator[str]:
    counters, labels = loaded.counters, _labels(model)
    totals = (
        ("vllm:prompt_tokens_total", "Number of prefill tokens processed.", counters.prompt_tokens),
        ("vllm:generation_tokens_total", "Number of generation tokens processed.", counters.output_tokens),
    )
    for name, text, value in totals:
        yield from head(name, "counter", text)
        yield f"{name}{label_text(labels)} {value}"
    histograms = (
        ("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", counters.first_token),
        ("vllm:time_per_output_token_seconds", "Histogram of time per output token in seconds.", counters.gaps),
        ("vllm:request_prompt_tokens", "Number of prefill tokens processed.", counters.input_lengths),
        ("vllm:request_generation_tokens", "Number of generation tokens processed.", counters.output_lengths),
    )
    for name, text, histogram in histograms:
        yield from head(name, "histogram", text)
        yield from histogram.lines(name, labels)
