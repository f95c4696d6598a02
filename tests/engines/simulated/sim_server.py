"""A simulated server inside the test's own event loop, and readers for captured answers."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp.test_utils import TestClient, TestServer

from engines.gpu.hardware import GPUS
from engines.simulated.faults import Faults
from engines.simulated.model import Simulation
from engines.simulated.pacing import PacedEngine
from engines.simulated.telemetry import GpuTelemetry
from engines.simulated.trtllm.arguments import validate_arguments
from engines.simulated.trtllm.engine_settings import engine_config
from engines.simulated.trtllm.routes import ServedModel, TrtllmServer
from engines.simulated.trtllm.versions import ServerVersion
from tests.engines.simulated.sim_builders import TINY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp import web

CAPTURES = Path(__file__).parents[2] / "data" / "trtllm" / "http"


@dataclass(frozen=True, slots=True)
class Running:
    """A running server's client and engine."""

    client: TestClient[Any, Any]
    engine: PacedEngine

    async def post(self, path: str, body: dict[str, Any] | bytes) -> tuple[int, bytes]:
        """Post a JSON body and return status and answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.post(path, data=data) as response:
            return response.status, await response.read()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Get a path and return status and answer."""
        async with self.client.get(path) as response:
            return response.status, await response.read()

    async def get_json(self, path: str) -> Any:
        """Get a path's JSON."""
        status, body = await self.get(path)
        assert status == 200
        return json.loads(body)

    async def complete(self, tokens: int = 4, prompt_tokens: int = 40, **fields: Any) -> dict[str, Any]:
        """Run one whole request of fixed lengths."""
        body = {"model": "m", "prompt": list(range(prompt_tokens)), "max_tokens": tokens, "ignore_eos": True}
        status, answer = await self.post("/v1/completions", {**body, **fields})
        assert status == 200
        parsed: dict[str, Any] = json.loads(answer)
        return parsed


@asynccontextmanager
async def serving(application: web.Application, engine: PacedEngine) -> AsyncIterator[Running]:
    """An application with its engine on a free loopback port."""
    pacing = asyncio.create_task(engine.run())
    client = TestClient(TestServer(application))
    await client.start_server()
    try:
        yield Running(client, engine)
    finally:
        pacing.cancel()
        await client.close()


@asynccontextmanager
async def running_server(
    version: str = "1.3.0rc20", settings: Mapping[str, Any] | None = None, faults: Faults | None = None
) -> AsyncIterator[Running]:
    """Run a tiny server on a free loopback port."""
    parsed = ServerVersion.parse(version)
    arguments = validate_arguments(
        {"max_seq_len": 512, "kv_cache_config": {"max_tokens": 4096}, **(settings or {})}, parsed
    )
    simulation = Simulation(engine_config(arguments, TINY), TINY, GPUS["h200"])
    engine = PacedEngine(simulation)
    telemetry = GpuTelemetry(GPUS["h200"], 1, time.monotonic())
    server = TrtllmServer(ServedModel("tiny-llama", parsed, arguments, faults or Faults()), engine, telemetry)
    async with serving(server.application(), engine) as running:
        yield running


def captured(name: str) -> tuple[int, bytes]:
    """Return status and body of a captured answer."""
    head, _, body = (CAPTURES / name).read_bytes().partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def captured_json(name: str) -> Any:
    """Return the JSON of a captured answer."""
    return json.loads(captured(name)[1])


def shape(value: Any) -> Any:
    """Reduce an answer to its keys, their order and the types of their values."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return "number" if isinstance(value, int | float) else type(value).__name__


def events(stream: bytes) -> list[Any]:
    """Split a stream into its events, parsed; the terminator stays a text."""
    parsed: list[Any] = []
    for event in stream.decode().split("\n\n"):
        if event.strip():
            text = event.removeprefix("data: ").strip()
            parsed.append(text if text == "[DONE]" else json.loads(text))
    return parsed
