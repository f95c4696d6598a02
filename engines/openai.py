"""Any server that speaks the OpenAI API: watched and measured as it runs, never started and never reconfigured."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, ClassVar, Literal

from engines._http import get, get_json_or_none
from engines._models_page import model_cards
from engines._page_metrics import replicas
from engines._prometheus import parse_page
from engines.base import Engine, ServerInfo
from engines.errors import BadConfiguration
from engines.sample import NAN, EngineSample

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from engines._prometheus import Page
    from engines.knob import Knob
    from engines.launch.spec import LaunchRequest, LaunchSpec
    from engines.sample import MetricsSource

RECHECK_S = 30.0
"""How long a missing metrics page is left alone."""

PROXY_HEALTH = "/health/readiness"
"""LiteLLM's. Its `/health` must not be polled: it sends requests to every model (contract others 5)."""

PROXY_NOTE = "a LiteLLM proxy: its retries, fallbacks and cache hide what the engine does; tune the engine behind it"

SUMMED_GAUGES = {
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs", "tgi_batch_current_size"),
    "waiting": (
        "vllm:num_requests_waiting",
        "sglang:num_queue_reqs",
        "tgi_queue_size",
        "dynamo_frontend_queued_requests",
    ),
}
"""Gauges that are added up over data-parallel replicas. Field of the sample: metric names of common servers, first match
wins (contract others)."""

GAUGES = {
    "max_batch_size": ("dynamo_frontend_model_max_num_seqs",),
    "kv_used_ratio": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"),
}
"""Gauges of which the largest counts."""

COUNTERS = {
    "prompt_tokens_total": (
        "vllm:prompt_tokens_total",
        "sglang:prompt_tokens_total",
        "dynamo_frontend_input_sequence_tokens_sum",
    ),
    "output_tokens_total": (
        "vllm:generation_tokens_total",
        "sglang:generation_tokens_total",
        "dynamo_frontend_output_tokens_total",
    ),
    "requests_total": (
        "vllm:request_success_total",
        "sglang:num_requests_total",
        "tgi_request_success",
        "dynamo_frontend_requests_total",
    ),
    "preemptions_total": ("vllm:num_preemptions_total",),
}
DYNAMO_INFLIGHT = "dynamo_frontend_inflight_requests"
"""Requests in NVIDIA Dynamo's frontend, those that wait for a first token (`..._queued_requests`) included."""

DYNAMO_BLOCKS = "dynamo_frontend_model_total_kv_blocks"
DYNAMO_BLOCK_TOKENS = "dynamo_frontend_model_kv_cache_block_size"
HITS = ("vllm:prefix_cache_hits_total",)
QUERIES = ("vllm:prefix_cache_queries_total",)


class OpenAi(Engine):
    """An OpenAI-compatible server of unknown make: chat or completions, text prompts, no settings to change."""

    name: ClassVar[str] = "openai"
    title: ClassVar[str] = "OpenAI-compatible server"
    program: ClassVar[str] = ""
    request_api: ClassVar[Literal["completions", "chat", "triton"]] = "chat"
    token_prompts: ClassVar[bool] = False
    health_path: ClassVar[str] = "/v1/models"
    attach_paths: ClassVar[tuple[str, ...]] = (PROXY_HEALTH,)

    def knobs(self, version: str = "") -> tuple[Knob, ...]:
        """None: only what the client does can be tuned."""
        return ()

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """Never possible.

        Raises:
            BadConfiguration: Always; the text says what to do instead.
        """
        raise BadConfiguration(
            "engine 'openai' cannot start a server; give its address with --url, or name the engine that starts it"
        )

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """Reads `/metrics` where it holds names that are known; otherwise there are no samples."""
        return OpenAiMetrics(http, url)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """The served model from `/v1/models`, the version where `/version` tells it.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If there is no OpenAI API.
        """
        cards = await model_cards(http, url)
        version = await get_json_or_none(http, f"{url}/version")
        proxy = await get_json_or_none(http, url + PROXY_HEALTH)
        names = [str(card.get("id", "")) for card in cards if isinstance(card, dict)]
        notes = () if len(names) == 1 else (f"the server lists {len(names)} models",)
        if isinstance(proxy, dict) and "litellm_version" in proxy:
            version, notes = {"version": proxy["litellm_version"]}, (*notes, PROXY_NOTE)
        return ServerInfo(
            version=str(version.get("version", "")) if isinstance(version, dict) else "",
            model=names[0] if names else "",
            notes=notes,
        )


class OpenAiMetrics:
    """A Prometheus page of a common server as engine samples."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._ask_again_s = 0.0

    async def poll(self) -> Sequence[tuple[int, EngineSample]]:
        """One sample of now, or none where the server has no page or no name that is known.

        Raises:
            Unreachable: If nobody answers.
        """
        if time.monotonic() < self._ask_again_s:
            return ()
        answer = await get(self._http, f"{self._url}/metrics")
        now_ns = time.monotonic_ns()
        sample = sample_of_page(parse_page(answer.text(), answer.url)) if answer.status == 200 else None
        if sample is None or sample == EngineSample():
            self._ask_again_s = time.monotonic() + RECHECK_S
            return ()
        return ((now_ns, sample),)


def sample_of_page(page: Page) -> EngineSample:
    """What a page tells in the common words."""
    found = {name: replicas(page, *names) for name, names in SUMMED_GAUGES.items()}
    found |= {name: page.largest(*names) for name, names in GAUGES.items()}
    found |= {name: page.total(*names) for name, names in COUNTERS.items()}
    hits, queries = page.total(*HITS), page.total(*QUERIES)
    inflight, queued = page.total(DYNAMO_INFLIGHT), found["waiting"]
    if not math.isnan(inflight):
        found["running"] = max(inflight - (0.0 if math.isnan(queued) else queued), 0.0)
    blocks, block_tokens = page.total(DYNAMO_BLOCKS), page.largest(DYNAMO_BLOCK_TOKENS)
    return EngineSample(
        **found,
        kv_hit_ratio=hits / queries if queries > 0 else NAN,
        kv_capacity_tokens=blocks * block_tokens if blocks > 0 and block_tokens > 0 else NAN,
    )


ENGINE = OpenAi()
"""What `engines.registry` finds."""
