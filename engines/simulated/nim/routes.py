"""NIM's HTTP faces: its own endpoints at once, and those of the engine inside once that is ready (contract 5.1)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from engines.simulated.face import Face, json_response, metrics_response
from engines.simulated.nim.metrics import MetricsPage
from engines.simulated.vllm.generation import Generation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.simulated.faults import Faults
    from engines.simulated.model import Iteration, RequestState
    from engines.simulated.pacing import PacedEngine
    from engines.simulated.telemetry import GpuTelemetry


class Front(Face):
    """NIM's front end: answers for itself from the start, and hands everything else to the engine inside."""

    def __init__(self, release: str, model: str, profile: str, *, alive_before_ready: bool) -> None:
        super().__init__()
        self._release = release
        self._model = model
        self._profile = profile
        self._alive_before_ready = alive_before_ready
        self._inside: web.Application | None = None

    def connect(self, inside: web.Application, engine: PacedEngine) -> None:
        """Become ready: from now on the engine inside answers."""
        self._inside = inside
        self.engine = engine

    def application(self) -> web.Application:
        """Return the routes as an application."""
        app = super().application()
        add = app.router.add_route
        add("GET", "/v1/health/live", self._live)
        add("GET", "/v1/health/ready", self._ready)
        add("GET", "/v1/version", self._version)
        add("GET", "/v1/metadata", self._metadata)
        add("GET", "/v1/license", self._license)
        add("*", "/{path:.*}", self._pass_on)
        return app

    async def _live(self, _: web.Request) -> web.Response:
        alive = self._inside is not None or self._alive_before_ready
        return json_response({"object": "health.response", "message": "Service is live."}, 200 if alive else 503)

    async def _ready(self, _: web.Request) -> web.Response:
        if self._inside is None:
            return json_response({"object": "health.response", "message": "Service is not ready."}, 503)
        return json_response({"object": "health.response", "message": "Service is ready."})

    async def _version(self, _: web.Request) -> web.Response:
        return json_response({"release": self._release, "api": self._release})

    async def _metadata(self, _: web.Request) -> web.Response:
        return json_response(
            {
                "version": self._release,
                "repository_override": "",
                "selectedModelProfileId": self._profile,
                "modelInfo": [{"shortName": self._model, "modelUrl": f"simulated://{self._model}"}],
                "assetInfo": [],
                "licenseInfo": {"name": "simulated", "path": "", "sha": ""},
            }
        )

    async def _license(self, _: web.Request) -> web.Response:
        return json_response({"name": "simulated", "content": "This server is simulated by trtune."})

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        if self._inside is None:
            return web.Response(status=502, text="502 Bad Gateway")
        found = await self._inside.router.resolve(request)
        if found.http_exception is not None:
            raise found.http_exception
        return await found.handler(request)


class OldServer:
    """What NIM 1.x serves once TensorRT-LLM inside it is ready."""

    def __init__(
        self,
        engine: PacedEngine,
        names: tuple[str, ...],
        telemetry: GpuTelemetry,
        faults: Faults,
        *,
        tells_request_metrics: bool,
    ) -> None:
        self._engine = engine
        self._names = names
        self._telemetry = telemetry
        self._faults = faults
        annotate = request_stats if tells_request_metrics else None
        self._generation = Generation(engine, names, "nim-simulated", faults.stream_cut_tokens, annotate)
        self._page = MetricsPage(engine.simulation, names[0])
        self._created = int(time.time())
        engine.listen(self._observe)

    def _observe(self, iteration: Iteration) -> None:
        self._telemetry.observe(iteration, time.monotonic())
        self._page.observe(iteration)

    def application(self) -> web.Application:
        """Return the routes as an application; ``/metrics`` is not one of them (contract 5.1)."""
        app = web.Application()
        add = app.router.add_route
        add("GET", "/v1/models", self._models)
        add("GET", "/v1/metrics", self._metrics)
        add("POST", "/v1/completions", self._generation.completions)
        add("POST", "/v1/chat/completions", self._generation.chat_completions)
        return app

    async def _models(self, _: web.Request) -> web.Response:
        cards: list[dict[str, Any]] = [
            {
                "id": name,
                "object": "model",
                "created": self._created,
                "owned_by": "system",
                "root": name,
                "parent": None,
                "max_model_len": self._engine.simulation.plan.max_seq_len,
                "permission": [],
            }
            for name in self._names
        ]
        return json_response({"object": "list", "data": cards})

    async def _metrics(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self._faults.slow_metrics_s)
        return metrics_response(self._page.render())


def request_stats(states: Sequence[RequestState]) -> dict[str, Any]:
    """Return the experimental ``stats`` object of 1.x (contract 5.4); its list form is not verified."""
    first = states[0]
    arrival, scheduled = first.arrival_ms, first.first_scheduled_ms or first.arrival_ms
    begun, ended = first.first_token_ms or scheduled, first.last_token_ms or scheduled
    gaps = max(1, first.generated_tokens - 1)
    token_ms = (ended - begun) / gaps
    return {
        "stats": {
            "type": "NIM LLM Model Stats",
            "version": "0.1.0",
            "llm_input_token_length": first.request.prompt_tokens,
            "llm_output_token_length": first.generated_tokens,
            "generation_time_in_ms": ended - arrival,
            "time_in_queue_in_ms": scheduled - arrival,
            "response_tokens": [
                {
                    "response_token_length": first.generated_tokens,
                    "time_to_first_token_in_ms": begun - arrival,
                    "token_to_token_time_in_ms": token_ms,
                    "tokens_per_second": 1e3 / token_ms if token_ms else 0.0,
                }
            ],
        }
    }
