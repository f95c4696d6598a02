"""``/prometheus/metrics``: the server's families in the text format, by version (contract section 3).

Written by hand because the server runs its client library in multiprocess mode, whose output differs from a registry's: sorted
labels, no ``_created`` series, and nothing at all before the first observation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engines.simulated.exposition import Histogram, Labels, label_text
from engines.simulated.trtllm.versions import V1_3, ServerVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.simulated.model import RequestState
    from engines.simulated.trtllm.iteration_records import IterationRecord

_SLOW_BUCKETS: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip
_TTFT_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_TPOT_BUCKETS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_PREFILL_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip

_HISTOGRAMS: Final = (
    ("e2e_request_latency_seconds", "Histogram of end to end request latency in seconds.", _SLOW_BUCKETS),
    ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", _TTFT_BUCKETS),
    ("time_per_output_token_seconds", "Histogram of time per output token in seconds.", _TPOT_BUCKETS),
    ("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", _SLOW_BUCKETS),
    ("request_prefill_time_seconds", "Histogram of time spent in PREFILL phase for request.", _PREFILL_BUCKETS),
    ("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", _SLOW_BUCKETS),
    ("request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", _SLOW_BUCKETS),
)
_HISTOGRAMS_BEFORE_1_3: Final = 4
"""Only the first four exist before 1.3."""


class _Histogram(Histogram):
    """Skips zeros, as the server does (contract section 3.1), and puts the sum first."""

    def observe(self, value: float, times: int = 1) -> None:
        if value > 0.0:
            super().observe(value, times)

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        *buckets, count, total = super().lines(name, labels)
        yield from (total, *buckets, count)


class PrometheusPage:
    """Everything ``/prometheus/metrics`` knows."""

    def __init__(self, version: ServerVersion, model_name: str, config_info: dict[str, Labels] | None = None) -> None:
        """Start empty.

        Args:
            version: decides prefix, labels and families.
            model_name: served model name, a label since 1.3.
            config_info: the info gauges of 1.3 by unprefixed name, with their labels (contract section 3.3).
        """
        modern = version >= V1_3
        self._modern = modern
        self._prefix = "trtllm_" if modern else ""
        undefined = "undefined"
        self._labels = {
            "engine_type": "pytorch" if modern else undefined,
            "model_name": model_name if modern else undefined,
        }
        kept = _HISTOGRAMS if modern else _HISTOGRAMS[:_HISTOGRAMS_BEFORE_1_3]
        self._histograms = [(name, text, _Histogram(buckets)) for name, text, buckets in kept]
        self._finished: dict[str, int] = {}
        self._totals: dict[str, float] = {}
        self._gauges: dict[str, float] = {}
        self._config_info = config_info or {}
        self._empty = True

    def observe_request(self, state: RequestState) -> None:
        """Count a finished request; nothing of it shows while it runs (contract section 3.1)."""
        if state.first_token_ms is None or state.last_token_ms is None or state.first_scheduled_ms is None:
            return
        self._empty = False
        arrival, scheduled = state.arrival_ms, state.first_scheduled_ms
        first, last = state.first_token_ms, state.last_token_ms
        gaps = state.generated_tokens - 1
        spans_ms = (
            last - arrival,
            first - arrival,
            (last - first) / gaps if gaps else 0.0,
            scheduled - arrival,
            first - scheduled,
            last - first,
            last - scheduled,
        )
        for (_, _, histogram), span_ms in zip(self._histograms, spans_ms, strict=False):
            histogram.observe(span_ms / 1e3)
        reason = str(state.finish_reason)
        self._finished[reason] = self._finished.get(reason, 0) + 1
        if self._modern:
            self._add("prompt_tokens", state.request.prompt_tokens)
            self._add("generation_tokens", state.generated_tokens)

    def observe_iteration(self, record: IterationRecord) -> None:
        """Take over the gauges of a record the background collector drained (contract section 3.2)."""
        self._empty = False
        iteration, before = record.iteration, record.previous_kv
        kv = iteration.kv
        looked_up = kv.reused_blocks + kv.missed_blocks
        gauges: dict[str, float] = {
            "kv_cache_hit_rate": kv.reused_blocks / looked_up if looked_up else 0.0,
            "kv_cache_utilization": kv.used_blocks / kv.max_blocks,
        }
        if self._modern:
            gauges |= {
                "num_requests_running": iteration.active_requests,
                "num_requests_waiting": iteration.queued_requests,
                "num_context_requests": iteration.context_requests,
                "num_generation_requests": iteration.generation_requests,
                "num_paused_requests": iteration.paused_requests,
                "num_scheduled_requests": iteration.scheduled_requests,
                "total_context_tokens": iteration.context_tokens,
                "iteration_latency_seconds": iteration.duration_ms / 1e3,
                "gpu_memory_usage_bytes": record.gpu_memory_bytes,
                "cpu_memory_usage_bytes": 0,
                "pinned_memory_usage_bytes": 0,
                "max_batch_size_static": 0,
                "max_batch_size_runtime": 0,
                "max_num_tokens_runtime": 0,
                "kv_cache_max_blocks": kv.max_blocks,
                "kv_cache_free_blocks": kv.free_blocks,
                "kv_cache_used_blocks": kv.used_blocks,
                "kv_cache_tokens_per_block": kv.tokens_per_block,
            }
            self._add("num_requests_completed", len(iteration.completed))
            self._add("kv_cache_reused_blocks", kv.reused_blocks - before.reused_blocks)
            self._add("kv_cache_missed_blocks", kv.missed_blocks - before.missed_blocks)
        self._gauges = gauges

    def _add(self, name: str, value: float) -> None:
        self._totals[name] = self._totals.get(name, 0.0) + value

    def render(self) -> str:
        """Return the page; empty before the first request has finished (captured)."""
        if self._empty:
            return ""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        prefix, labels = self._prefix, self._labels
        for name, text, histogram in self._histograms:
            yield f"# HELP {prefix}{name} {text}"
            yield f"# TYPE {prefix}{name} histogram"
            yield from histogram.lines(prefix + name, labels)
        yield f"# HELP {prefix}request_success_total Count of successfully processed requests."
        yield f"# TYPE {prefix}request_success_total counter"
        for reason, count in self._finished.items():
            yield f"{prefix}request_success_total{label_text({**labels, 'finished_reason': reason})} {float(count)}"
        for name, value in self._totals.items():
            yield from self._single(f"{prefix}{name}_total", "counter", value)
        for name, value in self._gauges.items():
            yield from self._single(f"{prefix}{name}", "gauge", value)
        for name, info in self._config_info.items():
            yield f"# HELP {prefix}{name} Multiprocess metric"
            yield f"# TYPE {prefix}{name} gauge"
            yield f"{prefix}{name}{label_text({**labels, **info})} 1.0"

    def _single(self, name: str, kind: str, value: float) -> Iterator[str]:
        yield f"# HELP {name} Multiprocess metric"
        yield f"# TYPE {name} {kind}"
        yield f"{name}{label_text(self._labels)} {float(value)}"
