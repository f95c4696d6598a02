"""SGLang's Prometheus page as engine samples (contract others 2.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engines._page_metrics import LatencySplit, RecentRatio, SplitNames, known, replicas
from engines.sample import NAN, EngineSample

if TYPE_CHECKING:
    from engines._prometheus import Page

PREFIX = "sglang:"

SPLIT = SplitNames(
    queue=("sglang:queue_time_seconds",),
    first_token=("sglang:time_to_first_token_seconds",),
    whole=("sglang:e2e_request_latency_seconds",),
)


class SglangReader:
    """Reads pages of one server. Gauges are refreshed once per decode log, every 40 steps by default."""

    def __init__(self) -> None:
        self._split = LatencySplit(SPLIT)
        self._hits = RecentRatio()

    def read(self, page: Page) -> EngineSample:
        """The sample of a page."""
        prompts = page.total("sglang:prompt_tokens_total")
        split = self._split.update(page)
        hits = self._hits.update(page.total("sglang:cached_tokens_total"), prompts)
        return EngineSample(
            running=replicas(page, "sglang:num_running_reqs"),
            waiting=replicas(page, "sglang:num_queue_reqs"),
            paused=replicas(page, "sglang:num_paused_reqs"),
            kv_used_ratio=known(page.largest("sglang:token_usage")),
            kv_capacity_tokens=replicas(page, "sglang:max_total_num_tokens"),
            kv_hit_ratio=known(page.largest("sglang:cache_hit_rate")) if math.isnan(hits) else hits,
            accepted_per_step=page.largest("sglang:spec_accept_length") or NAN,
            queue_ms=split.queue_ms,
            prefill_ms=split.prefill_ms,
            decode_ms=split.decode_ms,
            prompt_tokens_total=prompts,
            output_tokens_total=page.total("sglang:generation_tokens_total"),
            requests_total=page.total("sglang:num_requests_total"),
            preemptions_total=replicas(page, "sglang:num_retracted_requests_total"),
        )
