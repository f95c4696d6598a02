"""NIM's `/v1/metrics` as engine samples: its own names on 1.x, those of the engine inside on 2.x (contract nim 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines import _sglang_metrics, _vllm_metrics
from engines._nim_tables import Line
from engines._page_metrics import LatencySplit, RecentRatio, SplitNames, known
from engines.sample import EngineSample

if TYPE_CHECKING:
    from engines._prometheus import Page

SPLIT = SplitNames(first_token=("time_to_first_token_seconds",), whole=("e2e_request_latency_seconds",))
"""1.x does not tell the time in its queue, and so not that of prefill."""

OWN_NAMES = ("num_requests_running", "num_request_max")


def line_of_page(page: Page) -> Line | None:
    """Which line serves such a page, or None when it is another server's.

    1.x is looked for first: with a vLLM profile its page has some of vLLM's names too.
    """
    if any(name in page.series for name in OWN_NAMES):
        return Line.V1
    for prefix, line in ((_vllm_metrics.PREFIX, Line.VLLM), (_sglang_metrics.PREFIX, Line.SGLANG)):
        if any(name.startswith(prefix) for name in page.series):
            return line
    return None


class NimReader:
    """Reads pages of one server, whichever line it is."""

    def __init__(self) -> None:
        self._vllm = _vllm_metrics.VllmReader()
        self._sglang = _sglang_metrics.SglangReader()
        self._hits = RecentRatio()
        self._split = LatencySplit(SPLIT)

    def read(self, page: Page) -> EngineSample:
        """The sample of a page; an empty one when the page is another server's."""
        line = line_of_page(page)
        if line is Line.VLLM:
            return self._vllm.read(page)
        if line is Line.SGLANG:
            return self._sglang.read(page)
        return self._own(page)

    def _own(self, page: Page) -> EngineSample:
        hits, queries = page.total("vllm:prefix_cache_hits_total"), page.total("vllm:prefix_cache_queries_total")
        return EngineSample(
            running=known(page.total("num_requests_running")),
            waiting=known(page.total("num_requests_waiting")),
            max_batch_size=known(page.largest("num_request_max")),
            kv_used_ratio=known(page.largest("gpu_cache_usage_perc")),
            kv_hit_ratio=self._hits.update(hits, queries),
            decode_ms=self._split.update(page).decode_ms,
            prompt_tokens_total=page.total("prompt_tokens_total"),
            output_tokens_total=page.total("generation_tokens_total"),
            requests_total=page.total("request_success_total"),
        )
