"""``tritonserver``'s HTTP face: health, models, repository control, and generation (triton.md section 2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from engines.simulated.face import Face, json_response, metrics_response
from engines.simulated.triton.control import ControlError, LoadedModel, ModelControl, config_of
from engines.simulated.triton.generate import GenerateError, generate

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from engines.simulated.faults import Faults
    from engines.simulated.triton.metrics import MetricsPage

_EXTENSIONS: Final = (
    "classification", "sequence", "model_repository", "model_repository(unload_dependents)", "schedule_policy",
    "model_configuration", "system_shared_memory", "cuda_shared_memory", "binary_tensor_data", "parameters",
    "statistics", "trace", "logging",
)  # fmt: skip

_NO_CONTROL: Final = "explicit model load / unload is not allowed if polling is enabled"


class TritonServer(Face):
    """Endpoints of one server."""

    def __init__(self, version: str, control: ModelControl, faults: Faults, *, explicit: bool) -> None:
        super().__init__()
        self._version = version
        self._control = control
        self._faults = faults
        self._explicit = explicit

    def application(self) -> web.Application:
        """Return the routes as an application."""
        app = super().application()
        app.middlewares.insert(0, self._json_errors())
        add = app.router.add_route
        model = "/v2/models/{model}"
        add("GET", "/v2", self._server)
        add("GET", "/v2/health/live", self._live)
        add("GET", "/v2/health/ready", self._ready)
        add("GET", "/v2/models/stats", self._all_stats)
        for prefix in (model, model + "/versions/1"):
            add("GET", prefix, self._metadata)
            add("GET", prefix + "/ready", self._model_ready)
            add("GET", prefix + "/config", self._config)
            add("GET", prefix + "/stats", self._stats)
            add("POST", prefix + "/generate", self._generate)
            add("POST", prefix + "/generate_stream", self._generate_stream)
        add("POST", "/v2/repository/index", self._index)
        add("POST", "/v2/repository/models/{model}/load", self._load)
        add("POST", "/v2/repository/models/{model}/unload", self._unload)
        return app

    def _json_errors(self) -> Any:  # aiohttp has no public name for this type
        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                response = await handler(request)
            except (ControlError, GenerateError) as error:
                return json_response({"error": str(error)}, error.status)
            if response.status == 404 and request.match_info.http_exception is not None:
                return json_response({"error": "Not Found"}, 404)
            return response

        return answer

    def _model(self, request: web.Request) -> LoadedModel:
        name = request.match_info["model"]
        model = self._control.models().get(name)
        if model is None:
            raise ControlError(f"Request for unknown model: '{name}' is not found", 404)
        return model

    async def _server(self, _: web.Request) -> web.Response:
        return json_response({"name": "triton", "version": self._version, "extensions": list(_EXTENSIONS)})

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._control.ready else 400)

    async def _model_ready(self, request: web.Request) -> web.Response:
        if request.match_info["model"] in self._control.models():
            return web.Response()
        return web.Response(status=400, body=b'{"error":"Model version not ready"}', content_type="text/plain")

    async def _metadata(self, request: web.Request) -> web.Response:
        config = config_of(self._model(request))
        return json_response(
            {
                "name": config["name"],
                "versions": ["1"],
                "platform": config["backend"] or config["platform"],
                "inputs": [_tensor(entry) for entry in config["input"]],
                "outputs": [_tensor(entry) for entry in config["output"]],
            }
        )

    async def _config(self, request: web.Request) -> web.Response:
        return json_response(config_of(self._model(request)))

    async def _stats(self, request: web.Request) -> web.Response:
        model = self._model(request)
        return json_response({"model_stats": [_stats_of(model)]})

    async def _all_stats(self, _: web.Request) -> web.Response:
        return json_response({"model_stats": [_stats_of(model) for model in self._control.models().values()]})

    async def _index(self, request: web.Request) -> web.Response:
        body = await request.read()
        rows = self._control.index()
        try:
            only_ready = bool(body) and bool(orjson.loads(body).get("ready"))
        except (orjson.JSONDecodeError, AttributeError) as error:
            raise ControlError(f"failed to parse the request JSON buffer: {error}", 400) from error
        return json_response([row for row in rows if not only_ready or row.get("state") == "READY"])

    async def _load(self, request: web.Request) -> web.Response:
        self._need_explicit()
        body = await request.read()
        try:
            fields = orjson.loads(body) if body else {}
        except orjson.JSONDecodeError as error:
            raise ControlError(f"failed to parse the request JSON buffer: {error}", 400) from error
        parameters = fields.get("parameters", {}) if isinstance(fields, dict) else {}
        await self._control.load(request.match_info["model"], parameters if isinstance(parameters, dict) else {})
        return web.Response()

    async def _unload(self, request: web.Request) -> web.Response:
        self._need_explicit()
        await self._control.unload(request.match_info["model"])
        return web.Response()

    def _need_explicit(self) -> None:
        if not self._explicit:
            raise ControlError(_NO_CONTROL, 503)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, stream=False)

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, stream=True)

    async def _answer(self, request: web.Request, *, stream: bool) -> web.StreamResponse:
        name = request.match_info["model"]
        model = self._control.engine_of(self._model(request))
        return await generate(request, name, model, self._faults.stream_cut_tokens, stream=stream)


class MetricsFace(Face):
    """The metrics port."""

    def __init__(self, page: MetricsPage, control: ModelControl, faults: Faults) -> None:
        super().__init__()
        self._page = page
        self._control = control
        self._faults = faults

    def application(self) -> web.Application:
        """Return the one route as an application."""
        app = super().application()
        app.router.add_route("GET", "/metrics", self._metrics)
        return app

    async def _metrics(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self._faults.slow_metrics_s)
        return metrics_response(self._page.render(self._control.models()))


def _tensor(entry: dict[str, Any]) -> dict[str, Any]:
    kind = str(entry.get("data_type", "")).removeprefix("TYPE_")
    return {
        "name": entry.get("name", ""),
        "datatype": "BYTES" if kind == "STRING" else kind,
        "shape": entry.get("dims", []),
    }


def _stats_of(model: LoadedModel) -> dict[str, Any]:
    counters = model.counters
    success = {"count": counters.success, "ns": round(counters.duration_us * 1e3)}
    return {
        "name": model.files.name,
        "version": "1",
        "inference_count": counters.success,
        "execution_count": counters.success,
        "inference_stats": {"success": success, "fail": {"count": 0, "ns": 0}},
    }
