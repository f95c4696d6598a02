"""What the HTTP faces of all dialects have in common: the server's name, refusals, the hang, and ``/sim/status``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from engines.simulated.pacing import PacedEngine

SERVER_HEADER: Final = "trtune-simulated"
"""The one thing in an answer that says what this server is."""

MAX_BODY_BYTES: Final = 64 << 20


class Face:
    """An HTTP application that names itself, can hang, and refuses as FastAPI does.

    Attributes:
        hung: whether every request waits for ever.
        engine: whose delay behind real time is told, None until there is one.
    """

    def __init__(self, engine: PacedEngine | None = None) -> None:
        self.hung = False
        self.engine = engine

    def hang(self) -> None:
        """Answer nothing any more."""
        self.hung = True

    def application(self) -> web.Application:
        """Return an application with ``/sim/status`` and no other route."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._middleware()])
        app.router.add_route("GET", "/sim/status", self._status)
        app.on_response_prepare.append(self._name_server)
        return app

    def _middleware(self) -> Any:  # aiohttp has no public name for this type
        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self.hung:
                await asyncio.Event().wait()
            try:
                return await handler(request)
            except web.HTTPNotFound:
                return refused(404, "Not Found")
            except web.HTTPMethodNotAllowed as error:
                response = refused(405, "Method Not Allowed")
                response.headers["Allow"] = ",".join(sorted(error.allowed_methods - {"HEAD"}))
                return response

        return answer

    async def _name_server(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = SERVER_HEADER
        lag_ms = self.engine.lag.behind_ms if self.engine else 0.0
        if lag_ms:
            response.headers["X-Sim-Behind-Ms"] = f"{lag_ms:.0f}"

    async def _status(self, _: web.Request) -> web.Response:
        if self.engine is None:
            return json_response({"simulated": True})
        simulation = self.engine.simulation
        return json_response(
            {
                "simulated": True,
                "gpu": simulation.gpu.name,
                "virtual_ms": simulation.now_ms,
                "unfinished_requests": simulation.unfinished_requests,
                **asdict(self.engine.lag),
            }
        )


def json_response(value: object, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")


def refused(status: int, detail: str) -> web.Response:
    """Return FastAPI's refusal (captured)."""
    return json_response({"detail": detail}, status)


def metrics_response(text: str) -> web.Response:
    """Return a Prometheus page."""
    return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
