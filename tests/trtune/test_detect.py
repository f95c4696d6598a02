"""Which family of server answers: told by small servers that answer as each does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engines.errors import Unreachable
from trtune.detect import detect_engine, is_simulated

Serve = Callable[[dict[str, Any]], Awaitable[str]]
VERSION = {"/v1/version": {"release": "2.0.5", "api": "1"}, "/v1/metadata": {"version": "2.0.5"}}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that answers paths with JSON."""
    runners = []

    async def start(pages: dict[str, Any]) -> str:
        async def answer(request: web.Request) -> web.Response:
            if request.path not in pages:
                return web.json_response({"detail": "Not Found"}, status=404)
            return web.json_response(pages[request.path])

        app = web.Application()
        app.router.add_route("*", "/{any:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def models(owner: str) -> dict[str, Any]:
    return {"/v1/models": {"data": [{"id": "m", "owned_by": owner}]}}


@pytest.mark.parametrize(
    ("pages", "engine"),
    [
        (models("tensorrt_llm"), "trtllm"),
        (models("vllm"), "vllm"),
        (models("sglang"), "sglang"),
        (models("lmdeploy"), "lmdeploy"),
        (models("llamacpp"), "llamacpp"),
        (models("somebody"), "openai"),
        ({**models("vllm"), **VERSION}, "nim"),
        (
            {
                "/v2": {"name": "triton", "version": "2.51.0"},
                "/v2/repository/index": [{"name": "m", "state": "READY"}],
                "/v2/models/m/config": {"name": "m", "backend": "vllm"},
            },
            "triton_vllm",
        ),
    ],
)
async def test_a_server_is_told_by_what_it_says(serve: Serve, pages: dict[str, Any], engine: str) -> None:
    url = await serve(pages)

    assert await detect_engine(url) == engine
    assert await detect_engine(f"{url}/v1") == engine


async def test_another_program_is_refused_with_what_to_do(serve: Serve) -> None:
    with pytest.raises(Unreachable, match="is this an inference server"):
        await detect_engine(await serve({"/v1/models": {"hello": "world"}}))


async def test_a_server_that_wants_a_key_is_told_from_one_that_is_none() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"error": "Unauthorized"}, status=401)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    async with TestServer(app) as server:
        with pytest.raises(Unreachable, match=r"answers 401 Unauthorized: name the variable that holds the API key"):
            await detect_engine(str(server.make_url("/")))


@pytest.mark.parametrize(("header", "simulated"), [("trtune-simulated", True), ("uvicorn", False)])
async def test_a_simulated_server_is_told_by_its_name(header: str, simulated: bool) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"data": []}, headers={"Server": header})

    app = web.Application()
    app.router.add_get("/v1/models", answer)
    async with TestServer(app) as server:
        assert await is_simulated(str(server.make_url("/"))) is simulated


async def test_a_page_that_is_nested_without_end_is_no_inference_server() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="[" * 100_000, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    async with TestServer(app) as server:
        with pytest.raises(Unreachable, match="no inference server answers there"):
            await detect_engine(str(server.make_url("")))
