"""Hugging Face's text-generation-inference (contract others 3), which its makers only maintain."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from engines._flag_server import FlagServer
from engines._flags import whole
from engines._http import get_json_or_none
from engines._models_page import first_model
from engines._page_metrics import PageMetrics, RecentRatio, known
from engines._tgi_tables import FAILURES, KNOBS, PREFILL, TOTAL
from engines.base import ServerInfo
from engines.errors import EngineError
from engines.sample import NAN, EngineSample

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from engines._prometheus import Page
    from engines.failure import FailureRule
    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest
    from engines.sample import MetricsSource


class Tgi(FlagServer):
    """TGI. Prompts go as text. Two on one host need `--prometheus-port` in the plan's arguments: 9000 is the default."""

    name: ClassVar[str] = "tgi"
    title: ClassVar[str] = "TGI"
    program: ClassVar[str] = "text-generation-launcher"
    images: ClassVar[str] = "huggingface/text-generation-inference"
    token_prompts: ClassVar[bool] = False
    flags: ClassVar[tuple[Knob, ...]] = KNOBS
    failures: ClassVar[tuple[FailureRule, ...]] = FAILURES
    own_options: ClassVar[frozenset[str]] = frozenset({"--hostname", "--port", "-p", "--model-id"})
    aliases: ClassVar[Mapping[str, str]] = {"max-input-length": "max-input-tokens"}

    def words(self, request: LaunchRequest, host: str, port: int) -> tuple[str, ...]:
        """The launcher with its model and address."""
        command = (*(request.command or (self.program,)), "--model-id", request.model)
        return (*command, "--hostname", host, "--port", str(port))

    def metrics(self, http: aiohttp.ClientSession, url: str) -> MetricsSource:
        """Reads `/metrics`."""
        return PageMetrics(http, f"{url}/metrics", TgiReader().read, "is it TGI?", self.title)

    async def inspect(self, http: aiohttp.ClientSession, url: str) -> ServerInfo:
        """Version, model and limits in force from `/info`; the served name from `/v1/models` where there is one.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If it is no TGI server.
        """
        card = await first_model(http, url)
        info = await get_json_or_none(http, f"{url}/info")
        if not isinstance(info, dict) or "max_total_tokens" not in info:
            raise EngineError(f"{url} is not a TGI server: it has no /info")
        settings = {knob.name: info.get(knob.name.replace("-", "_")) for knob in KNOBS}
        effective = {name: value for name, value in settings.items() if type(value) in (int, float)}
        return ServerInfo(str(info.get("version", "")), card.name or str(info.get("model_id", "")), effective)

    def starting_points(self, concurrency: float) -> tuple[dict[str, Value], ...]:
        """Room for all requests, with prompts let in earlier or later."""
        room: dict[str, Value] = {"max-concurrent-requests": max(128, min(65_536, int(2 * concurrency)))}
        return (room, room | {"waiting-served-ratio": 1.2}, room | {"max-waiting-tokens": 5})

    def conflicts(self, params: Mapping[str, Value]) -> str | None:
        """What TGI refuses."""
        prompt, request = whole(params, "max-input-tokens"), whole(params, "max-total-tokens")
        if prompt and request and prompt >= request:
            return f"max-input-tokens {prompt} must be less than max-total-tokens {request}"
        if prompt and 0 < whole(params, PREFILL) < prompt:
            return f"{PREFILL} {params[PREFILL]} must be at least max-input-tokens {prompt}"
        if request and 0 < whole(params, TOTAL) < request:
            return f"{TOTAL} {params[TOTAL]} must be at least max-total-tokens {request}"
        return None


class TgiReader:
    """TGI's Prometheus page as engine samples; tokens are counted when a request is finished."""

    def __init__(self) -> None:
        self._queue_s = RecentRatio()

    def read(self, page: Page) -> EngineSample:
        """The sample of a page. The share of the KV cache is reserved tokens of the batch over its limit."""
        capacity = page.largest("tgi_batch_max_total_tokens")
        reserved = page.largest("tgi_batch_current_max_tokens")
        return EngineSample(
            running=known(page.largest("tgi_batch_current_size")),
            waiting=known(page.largest("tgi_queue_size")),
            kv_used_ratio=known(reserved / capacity) if capacity > 0 else NAN,
            kv_capacity_tokens=capacity if capacity > 0 else NAN,
            queue_ms=1000.0
            * self._queue_s.update(
                page.total("tgi_request_queue_duration_sum"), page.total("tgi_request_queue_duration_count")
            ),
            prompt_tokens_total=page.total("tgi_request_input_length_sum"),
            output_tokens_total=page.total("tgi_request_generated_tokens_sum"),
            requests_total=page.total("tgi_request_success"),
            iterations_total=page.total("tgi_batch_inference_count"),
        )


ENGINE = Tgi()
"""What `engines.registry` finds."""
