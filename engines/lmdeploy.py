"""LMDeploy's server (contract others 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from engines._flag_server import FlagServer, recognised
from engines._flags import batch_for
from engines._lmdeploy_tables import BATCH_SIZES, FAILURES, KNOBS
from engines._page_metrics import LatencySplit, PageMetrics, SplitNames, known
from engines.base import ServerInfo
from engines.sample import EngineSample

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from engines._prometheus import Page
    from engines.failure import FailureRule
    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest
    from engines.sample import MetricsSource

PREFIX = "lmdeploy:"
SPLIT = SplitNames(
    queue=("lmdeploy:request_queue_time_seconds",),
    first_token=("lmdeploy:time_to_first_token_seconds",),
    whole=("lmdeploy:e2e_request_latency_seconds",),
    prefill=("lmdeploy:request_prefill_time_seconds",),
    decode=("lmdeploy:request_decode_time_seconds",),
)
SETTINGS_SERIES = "lmdeploy:backend_config_info"


class LmDeploy(FlagServer):
    """LMDeploy. Prompts go as text: whether token arrays are taken has not been verified."""

    name: ClassVar[str] = "lmdeploy"
    title: ClassVar[str] = "LMDeploy"
    program: ClassVar[str] = "lmdeploy"
    install: ClassVar[str] = "pip install lmdeploy"
    images: ClassVar[str] = "openmmlab/lmdeploy"
    token_prompts: ClassVar[bool] = False
    flags: ClassVar[tuple[Knob, ...]] = KNOBS
    failures: ClassVar[tuple[FailureRule, ...]] = FAILURES
    own_options: ClassVar[frozenset[str]] = frozenset({"--server-name", "--server-port", "--disable-metrics"})

    def words(self, request: LaunchRequest, host: str, port: int) -> tuple[str, ...]:
        """`lmdeploy serve api_server MODEL` with its address."""
        command = (*(request.command or (self.program,)), "serve", "api_server", request.model)
        return (*command, "--server-name", host, "--server-port", str(port))

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """Reads `/metrics`."""
        hint = "is it LMDeploy, and runs it without --disable-metrics?"
        return PageMetrics(http, f"{url}/metrics", LmDeployReader().read, hint, self.title)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Model from `/v1/models`, settings from the labels of `lmdeploy:backend_config_info`.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no LMDeploy server.
        """
        card, page = await recognised(http, url, self.name, PREFIX, self.title, "an")
        return ServerInfo("", card.name, settings_of_page(page))

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """More memory for the KV cache, a batch fitted to the load, prompts in larger or smaller pieces."""
        batch = batch_for(BATCH_SIZES, concurrency)
        return (
            {"cache-max-entry-count": 0.9, "max-batch-size": batch},
            {"cache-max-entry-count": 0.9, "max-prefill-token-num": 16384},
            {"max-prefill-token-num": 4096},
        )

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """What has no effect next to another setting."""
        if params.get("backend") == "pytorch" and params.get("num-tokens-per-iter"):
            return "num-tokens-per-iter is a setting of the turbomind backend"
        return None


class LmDeployReader:
    """LMDeploy's Prometheus page as engine samples (contract others 4)."""

    def __init__(self) -> None:
        self._split = LatencySplit(SPLIT)

    def read(self, page: Page) -> EngineSample:
        """The sample of a page; the size of the KV cache is not told."""
        split = self._split.update(page)
        return EngineSample(
            running=known(page.total("lmdeploy:num_requests_running")),
            waiting=known(page.total("lmdeploy:num_requests_waiting")),
            kv_used_ratio=known(page.largest("lmdeploy:gpu_cache_usage_perc")),
            kv_hit_ratio=known(page.largest("lmdeploy:prefix_cache_hit_rate")),
            queue_ms=split.queue_ms,
            prefill_ms=split.prefill_ms,
            decode_ms=split.decode_ms,
            prompt_tokens_total=page.total("lmdeploy:prompt_tokens_total"),
            output_tokens_total=page.total("lmdeploy:generation_tokens_total"),
            requests_total=page.total("lmdeploy:request_success_total"),
            iterations_total=page.total("lmdeploy:iteration_tokens_total_count"),
        )


def settings_of_page(page: Page) -> dict[str, Value]:
    """Settings in force from the labels of the configuration series; what the knob would not take is left out."""
    labels = page.labels(SETTINGS_SERIES)
    found: dict[str, Value] = {}
    for knob in KNOBS:
        text = labels.get(knob.name.replace("-", "_"), "")
        value = _read(knob, text)
        if value is not None and knob.allows(value):
            found[knob.name] = value
    return found


def _read(knob: Knob, text: str) -> Value:
    """A label in the knob's type, or None."""
    if knob.kind == "bool":
        return {"true": True, "false": False}.get(text.lower())
    try:
        if knob.kind == "float":
            return float(text)
        if knob.kind == "int" or isinstance(knob.default, int):
            return int(text)
    except ValueError:
        return None
    return text or None


ENGINE = LmDeploy()
"""What `engines.registry` finds."""
