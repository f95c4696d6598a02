"""``/v1/metrics`` of NIM 1.x: NIM's own names without a prefix (contract nim.md section 5.2, a captured scrape)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engines.simulated.exposition import Histogram, head, label_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.simulated.model import Iteration, Simulation

_TTFT_S: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_GAP_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_E2E_S: Final = (1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
_TOKENS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0)

_HISTOGRAMS: Final = {
    "time_to_first_token_seconds": ("Histogram of time to first token in seconds.", _TTFT_S),
    "time_per_output_token_seconds": ("Histogram of time per output token in seconds.", _GAP_S),
    "e2e_request_latency_seconds": ("Histogram of end to end request latency in seconds.", _E2E_S),
    "request_prompt_tokens": ("Number of prefill tokens processed.", _TOKENS),
    "request_generation_tokens": ("Number of generation tokens processed.", _TOKENS),
}


class MetricsPage:
    """Everything the page knows; the gap histogram counts every gap, not one value a request."""

    def __init__(self, simulation: Simulation, model_name: str) -> None:
        self._simulation = simulation
        self._labels = {"model_name": model_name}
        self._histograms = {name: Histogram(buckets) for name, (_, buckets) in _HISTOGRAMS.items()}
        self._last_ms: dict[int, float] = {}
        self._prompt_tokens = 0
        self._output_tokens = 0
        self._finished: dict[str, int] = {}

    def observe(self, iteration: Iteration) -> None:
        """Count one iteration and the requests it finished."""
        end_ms, last = iteration.end_ms, self._last_ms
        self._output_tokens += len(iteration.emitted)
        for state in iteration.emitted:
            before_ms = last.get(state.id)
            last[state.id] = end_ms
            if before_ms is None:
                self._prompt_tokens += state.request.prompt_tokens
                self._observe("time_to_first_token_seconds", (end_ms - state.arrival_ms) / 1e3)
            else:
                self._observe("time_per_output_token_seconds", (end_ms - before_ms) / 1e3)
        for state in iteration.completed:
            last.pop(state.id, None)
            reason = str(state.finish_reason)
            self._finished[reason] = self._finished.get(reason, 0) + 1
            self._observe("e2e_request_latency_seconds", (end_ms - state.arrival_ms) / 1e3)
            self._observe("request_prompt_tokens", state.request.prompt_tokens)
            self._observe("request_generation_tokens", state.generated_tokens)

    def _observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)

    def render(self) -> str:
        """Return the page; gauges are read from the engine now."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        simulation = self._simulation
        kv = simulation.kv
        success = sum(self._finished.values())
        rows = (
            ("num_requests_running", "gauge", simulation.running_requests),
            ("num_requests_waiting", "gauge", simulation.waiting_requests),
            ("num_request_max", "gauge", simulation.config.max_batch_size),
            ("gpu_cache_usage_perc", "gauge", kv.used_blocks / kv.max_blocks),
            ("prompt_tokens_total", "counter", self._prompt_tokens),
            ("generation_tokens_total", "counter", self._output_tokens),
            ("request_success_total", "counter", success),
            ("request_failure_total", "counter", 0),
        )
        for name, kind, value in rows:
            yield from head(name, kind, name.replace("_", " "))
            yield f"{name}{label_text(self._labels)} {float(value)}"
        yield from head("request_finish_total", "counter", "Count of finished requests by reason.")
        for reason, count in self._finished.items():
            yield f"request_finish_total{label_text({**self._labels, 'finished_reason': reason})} {float(count)}"
        for name, (text, _) in _HISTOGRAMS.items():
            yield from head(name, "histogram", text)
            yield from self._histograms[name].lines(name, self._labels)
