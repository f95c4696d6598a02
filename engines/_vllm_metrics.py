"""vLLM's Prometheus page as engine samples (contract others 1.2; capture of 0.24.0)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engines._page_metrics import LatencySplit, RecentRatio, SplitNames, known
from engines.sample import NAN, EngineSample

if TYPE_CHECKING:
    from engines._prometheus import Page

PREFIX = "vllm:"

SPLIT = SplitNames(
    queue=("vllm:request_queue_time_seconds",),
    first_token=("vllm:time_to_first_token_seconds",),
    whole=("vllm:e2e_request_latency_seconds",),
    prefill=("vllm:request_prefill_time_seconds",),
    decode=("vllm:request_decode_time_seconds",),
)


class VllmReader:
    """Reads pages of one server; ratios and means are of what happened since the page before.

    With data parallelism there is one series for each engine: requests and capacity are added up, and of the shares
    of used KV cache the fullest one counts, since that engine preempts first.
    """

    def __init__(self) -> None:
        self._hits = RecentRatio()
        self._split = LatencySplit(SPLIT)
        self._context = RecentRatio()
        self._accepted = RecentRatio()

    def read(self, page: Page) -> EngineSample:
        """The sample of a page."""
        generated = page.total("vllm:generation_tokens_total")
        steps = page.total("vllm:iteration_tokens_total_count")
        split = self._split.update(page)
        computed = page.total("vllm:iteration_tokens_total_sum") - generated
        return EngineSample(
            running=known(page.total("vllm:num_requests_running")),
            waiting=known(page.total("vllm:num_requests_waiting")),
            kv_used_ratio=known(page.largest("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")),
            kv_capacity_tokens=capacity_tokens(page),
            kv_hit_ratio=self._hits.update(
                page.total("vllm:prefix_cache_hits_total"), page.total("vllm:prefix_cache_queries_total")
            ),
            context_tokens=self._context.update(computed, steps),
            accepted_per_step=1.0 + self._accepted_tokens(page),
            queue_ms=split.queue_ms,
            prefill_ms=split.prefill_ms,
            decode_ms=split.decode_ms,
            prompt_tokens_total=page.total("vllm:prompt_tokens_total"),
            output_tokens_total=generated,
            requests_total=page.total("vllm:request_success_total"),
            preemptions_total=page.total("vllm:num_preemptions_total"),
            iterations_total=steps,
        )

    def _accepted_tokens(self, page: Page) -> float:
        """Guessed tokens taken in each draft; NaN without speculation."""
        return self._accepted.update(
            page.total("vllm:spec_decode_num_accepted_tokens_total"), page.total("vllm:spec_decode_num_drafts_total")
        )


def capacity_tokens(page: Page) -> float:
    """KV cache in tokens, from the labels of `cache_config_info`: its size where told, else blocks by block size."""
    found = [
        _number(series.labels, "kv_cache_size_tokens")
        or _number(series.labels, "num_gpu_blocks") * _number(series.labels, "block_size")
        for series in page.series.get("vllm:cache_config_info", ())
    ]
    return math.fsum(found) or NAN


def _number(labels: object, name: str) -> float:
    """A label that is a number, else 0; vLLM writes None as text."""
    text = labels.get(name, "") if isinstance(labels, dict) else ""
    return float(text) if text.isdecimal() and len(text) < 16 else 0.0
