"""Triton's metrics port as engine samples (contract triton sections 4.1, 5 and 6).

The C++ backend tells queue, batch and KV cache. The LLM API tells nothing of its own and vLLM inside Triton only tokens, so
that most fields stay unknown there. Triton's own duration counters are left out: for models that stream they hold only the
time of dispatch.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from engines._http import get
from engines._prometheus import parse_page
from engines.errors import EngineError
from engines.sample import NAN, EngineSample

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from engines._prometheus import Page

METRICS_PORT_OFFSET = 2
"""Upstream's defaults are 8000 for the API and 8002 for metrics; trtune starts servers alike."""

_REQUESTS = ("nv_trt_llm_request_metrics", "request_type")
_BLOCKS = ("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type")
_BATCHER = ("nv_trt_llm_inflight_batcher_metrics", "inflight_batcher_specific_metric")
_GENERAL = ("nv_trt_llm_general_metrics", "general_type")

_GAUGES = (
    ("running", _REQUESTS, "scheduled"),
    ("waiting", _REQUESTS, "waiting"),
    ("max_batch_size", _REQUESTS, "max"),
    ("context_requests", _REQUESTS, "context"),
    ("kv_used_ratio", _BLOCKS, "fraction"),
    ("generation_requests", _BATCHER, "generation_requests"),
    ("paused", _BATCHER, "paused_requests"),
    ("context_tokens", _BATCHER, "total_context_tokens"),
    ("iterations_total", _GENERAL, "iteration_counter"),
)
"""Field of the sample, family with its category label, and the label's value."""


def metrics_url(url: str) -> str:
    """Address of the metrics page that belongs to an API's address."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = (parts.port or 8000) + METRICS_PORT_OFFSET
    return urlunsplit((parts.scheme, f"{host}:{port}", "/metrics", "", ""))


def sample_of_page(page: Page) -> EngineSample:
    """What a page tells in the common words."""
    found = {field: _labelled(page, family, label, value) for field, (family, label), value in _GAUGES}
    blocks = _labelled(page, *_BLOCKS, "max") * _labelled(page, *_BLOCKS, "tokens_per")
    return replace(
        EngineSample(**found),
        kv_capacity_tokens=blocks,
        prompt_tokens_total=page.total("nv_llm_input_token_len_sum", "vllm:prompt_tokens_total"),
        output_tokens_total=page.total("nv_llm_output_token_len_sum", "vllm:generation_tokens_total"),
        # An ensemble and the model inside it each count every request: the largest is the number of requests.
        requests_total=page.largest("nv_inference_request_success"),
    )


def _labelled(page: Page, family: str, label: str, value: str) -> float:
    found = [series.value for series in page.series.get(family, ()) if series.labels.get(label) == value]
    return max(found, default=NAN)


class TritonMetrics:
    """The page on the metrics port."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = metrics_url(url)

    async def poll(self) -> Sequence[tuple[int, EngineSample]]:
        """One sample of now.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no page of Triton's.
        """
        answer = await get(self._http, self._url)
        now_ns = time.monotonic_ns()
        page = parse_page(answer.text(), answer.url) if answer.status == 200 else None
        if page is None or not any(name.startswith("nv_") for name in page.series):
            raise EngineError(
                f"{answer.url} answers {answer.status} and no metrics of Triton: start it with its metrics port "
                f"{METRICS_PORT_OFFSET} above the API's"
            )
        return ((now_ns, sample_of_page(page)),)
