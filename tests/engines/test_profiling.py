"""The profiler of a running server: what is asked of it, and its answers in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from engines.errors import BadConfiguration, EngineError
from engines.registry import get_engine

Serving = Callable[[int, str], Awaitable[tuple[str, list[str]]]]


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    """Starts a server that answers every POST with a status and a body, and keeps what it was asked."""
    runners: list[web.AppRunner] = []

    async def start(status: int, body: str) -> tuple[str, list[str]]:
        asked: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            asked.append(f"{request.path} {await request.text()}")
            return web.Response(status=status, text=body)

        app = web.Application()
        app.router.add_post("/{path}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}", asked

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_start_sends_the_options_and_a_stop_none(serving: Serving, http: aiohttp.ClientSession) -> None:
    url, asked = await serving(200, '{"message": "Profiling started"}')
    engine = get_engine("trtllm")

    told = await engine.profile(http, url, "start", {"num_steps": 20})
    await engine.profile(http, url, "stop")

    assert told == "Profiling started"
    assert asked == ['/start_profile {"num_steps": 20}', "/stop_profile "]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, "", "1.3.0rc15 or newer"),
        (409, '{"error": "busy"}', "already running"),
        (500, '{"error": "no \\u001b[31mdisk"}', "answers 500: no .31mdisk"),
        (500, "<html>\n\n", "answers 500: <html>"),
        (500, "", "no reason given"),
    ],
)
async def test_a_refusal_is_one_line(
    serving: Serving, http: aiohttp.ClientSession, status: int, body: str, told: str
) -> None:
    url, _ = await serving(status, body)

    with pytest.raises(EngineError, match=told) as raised:
        await get_engine("trtllm").profile(http, url, "start")

    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", ["nim", "tgi", "llamacpp", "openai"])
async def test_servers_without_a_profiler_say_so(http: aiohttp.ClientSession, name: str) -> None:
    with pytest.raises(BadConfiguration, match="cannot be profiled while it runs"):
        await get_engine(name).profile(http, "http://127.0.0.1:9", "start")
