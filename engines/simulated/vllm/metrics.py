"""vLLM's ``/metrics`` page: families, labels, buckets and help texts captured from 0.24.0."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, generate_latest

from engines.simulated.exposition import Histogram, Labels, head, label_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.simulated.model import Iteration, RequestState, Simulation

_FAST_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
_GAP_S: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_SLOW_S: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_LARGEST_TOKENS: Final = 20000.0
_TOKENS: Final = (
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, _LARGEST_TOKENS,
)  # fmt: skip
_STEP_TOKENS: Final = tuple(float(1 << power) for power in (0, *range(3, 15)))
_CHOICES: Final = (1.0, 2.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    help: str
    buckets: tuple[float, ...] = ()


_GAUGES: Final = (
    _Family("num_requests_running", "Number of requests in model execution batches."),
    _Family("num_requests_waiting", "Number of requests waiting to be processed."),
    _Family("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage."),
)
_COUNTERS: Final = (
    _Family("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens."),
    _Family("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens."),
    _Family("num_preemptions", "Cumulative number of preemption from the engine."),
    _Family("prompt_tokens", "Number of prefill tokens processed."),
    _Family("prompt_tokens_cached", "Number of cached prompt tokens (local + external)."),
    _Family("generation_tokens", "Number of generation tokens processed."),
)
_HISTOGRAMS: Final = (
    _Family("request_prompt_tokens", "Number of prefill tokens processed.", _TOKENS),
    _Family("request_generation_tokens", "Number of generation tokens processed.", _TOKENS),
    _Family("iteration_tokens_total", "Histogram of number of tokens per engine_step.", _STEP_TOKENS),
    _Family(
        "request_max_num_generation_tokens", "Histogram of maximum number of requested generation tokens.", _TOKENS
    ),
    _Family("request_params_n", "Histogram of the n request parameter.", _CHOICES),
    _Family("request_params_max_tokens", "Histogram of the max_tokens request parameter.", _TOKENS),
    _Family("time_to_first_token_seconds", "Histogram of time to first token in seconds.", _FAST_S),
    _Family("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", _GAP_S),
    _Family("request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request.", _GAP_S),
    _Family("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", _SLOW_S),
    _Family("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", _SLOW_S),
    _Family("request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", _SLOW_S),
    _Family("request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", _SLOW_S),
    _Family("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", _SLOW_S),
    _Family(
        "request_prefill_kv_computed_tokens",
        "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
        _TOKENS,
    ),
)
_FINISH_REASONS: Final = ("stop", "length", "abort", "error", "repetition")
_WAITING_REASONS: Final = ("capacity", "deferred")


class MetricsPage:
    """Everything ``/metrics`` knows; gauges are read from the engine when the page is."""

    def __init__(self, simulation: Simulation, model_name: str, cache_config: Labels) -> None:
        """Start at zero.

        Args:
            simulation: the engine.
            model_name: the label of every series.
            cache_config: labels of ``vllm:cache_config_info``.
        """
        self._simulation = simulation
        self._labels = {"engine": "0", "model_name": model_name}
        self._cache_config = cache_config
        self._counts = {family.name: 0 for family in _COUNTERS}
        self._finished = dict.fromkeys(_FINISH_REASONS, 0)
        self._histograms = {family.name: Histogram(family.buckets) for family in _HISTOGRAMS}
        self._last_token_ms: dict[int, float] = {}
        self._created_s = time.time()

    def observe(self, iteration: Iteration) -> None:
        """Count one iteration and the requests it finished."""
        counts, histograms = self._counts, self._histograms
        counts["generation_tokens"] += len(iteration.emitted)
        counts["num_preemptions"] += iteration.paused_requests
        if iteration.scheduled_requests:
            histograms["iteration_tokens_total"].observe(iteration.context_tokens + iteration.generation_requests)
        self._observe_gaps(iteration)
        for state in iteration.completed:
            self._observe_request(state)

    def _observe_gaps(self, iteration: Iteration) -> None:
        """Count first tokens and the gaps of the others; most of a batch share one gap, so equal ones go together."""
        last = self._last_token_ms
        gaps: dict[float, int] = {}
        end_ms = iteration.end_ms
        for state in iteration.emitted:
            before_ms = last.get(state.id)
            last[state.id] = end_ms
            if before_ms is None:
                self._observe_first_token(state, end_ms)
            else:
                gap_ms = end_ms - before_ms
                gaps[gap_ms] = gaps.get(gap_ms, 0) + 1
        latency = self._histograms["inter_token_latency_seconds"]
        for gap_ms, times in gaps.items():
            latency.observe(gap_ms / 1e3, times)
        for state in iteration.completed:
            last.pop(state.id, None)

    def _observe_first_token(self, state: RequestState, end_ms: float) -> None:
        self._histograms["time_to_first_token_seconds"].observe((end_ms - state.arrival_ms) / 1e3)
        counts, prompt = self._counts, state.request.prompt_tokens
        counts["prompt_tokens"] += prompt
        counts["prompt_tokens_cached"] += state.cached_tokens
        if self._simulation.config.enable_block_reuse:
            counts["prefix_cache_queries"] += prompt
            counts["prefix_cache_hits"] += state.cached_tokens

    def _observe_request(self, state: RequestState) -> None:
        first, last, scheduled = state.first_token_ms, state.last_token_ms, state.first_scheduled_ms
        if first is None or last is None or scheduled is None:
            return
        self._finished[str(state.finish_reason)] += 1
        gaps = state.generated_tokens - 1
        values: dict[str, float] = {
            "request_prompt_tokens": state.request.prompt_tokens,
            "request_generation_tokens": state.generated_tokens,
            "request_max_num_generation_tokens": state.generated_tokens,
            "request_params_n": 1,
            "request_params_max_tokens": state.request.max_tokens,
            "request_time_per_output_token_seconds": (last - first) / gaps / 1e3 if gaps else 0.0,
            "e2e_request_latency_seconds": (last - state.arrival_ms) / 1e3,
            "request_queue_time_seconds": (scheduled - state.arrival_ms) / 1e3,
            "request_inference_time_seconds": (last - scheduled) / 1e3,
            "request_prefill_time_seconds": (first - scheduled) / 1e3,
            "request_decode_time_seconds": (last - first) / 1e3,
            "request_prefill_kv_computed_tokens": state.request.prompt_tokens - state.cached_tokens,
        }
        for name, value in values.items():
            self._histograms[name].observe(value)

    def render(self) -> str:
        """Return the page: this process's own series first, as the server has them."""
        own = generate_latest(REGISTRY).decode()
        return own + "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from self._gauge_lines()
        for family in _COUNTERS:
            yield from self._counter(family, (({}, self._counts[family.name]),))
        reasons = (({"finished_reason": reason}, count) for reason, count in self._finished.items())
        yield from self._counter(
            _Family("request_success", "Count of successfully processed requests."), tuple(reasons)
        )
        for family in _HISTOGRAMS:
            name = f"vllm:{family.name}"
            yield from head(name, "histogram", family.help)
            yield from self._histograms[family.name].lines(name, self._labels)
            yield from self._created(name, family.help, ({},))
        name = "vllm:cache_config_info"
        yield from head(name, "gauge", "Information of the LLMEngine CacheConfig")
        yield f"{name}{label_text({'engine': '0', **self._cache_config})} 1.0"

    def _gauge_lines(self) -> Iterator[str]:
        simulation = self._simulation
        kv, waiting = simulation.kv, simulation.waiting_requests
        values = (simulation.running_requests, waiting, kv.used_blocks / kv.max_blocks)
        for family, value in zip(_GAUGES, values, strict=True):
            name = f"vllm:{family.name}"
            yield from head(name, "gauge", family.help)
            yield f"{name}{label_text(self._labels)} {float(value)}"
        name = "vllm:num_requests_waiting_by_reason"
        yield from head(name, "gauge", "Number of waiting requests by reason.")
        for reason, count in zip(_WAITING_REASONS, (waiting, 0), strict=True):
            yield f"{name}{label_text({**self._labels, 'reason': reason})} {float(count)}"

    def _counter(self, family: _Family, series: tuple[tuple[Labels, int], ...]) -> Iterator[str]:
        name = f"vllm:{family.name}"
        yield from head(f"{name}_total", "counter", family.help)
        for labels, value in series:
            yield f"{name}_total{label_text({**self._labels, **labels})} {float(value)}"
        yield from self._created(name, family.help, tuple(labels for labels, _ in series))

    def _created(self, name: str, help_text: str, series: tuple[Labels, ...]) -> Iterator[str]:
        yield from head(f"{name}_created", "gauge", help_text)
        for labels in series:
            yield f"{name}_created{label_text({**self._labels, **labels})} {self._created_s!r}"
