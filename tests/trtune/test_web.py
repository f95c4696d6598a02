"""The screen in a browser: nothing without the token, nothing fetched from elsewhere, and a real screen behind it."""

from __future__ import annotations

import asyncio
import shlex
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from tests.tui.sample_session import write_sample_session
from trtune.web import COOKIE, TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def served(command: str = "true") -> AsyncIterator[tuple[TokenServer, aiohttp.ClientSession]]:
    """The server on a free port of loopback, and a client that keeps cookies of plain addresses."""
    server = TokenServer(command, "127.0.0.1", 1)
    runner = web.AppRunner(await server._make_app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.public_url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
            yield server, client
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("path", ["/", "/ws", "/static/js/textual.js", "/?token=", "/?token=guess"])
async def test_nothing_is_answered_without_the_token(path: str) -> None:
    async with served() as (server, client), client.get(server.public_url + path) as answer:
        assert answer.status == 403


async def test_a_wrong_cookie_is_no_token() -> None:
    async with served() as (server, client), client.get(server.public_url, cookies={COOKIE: "guess"}) as answer:
        assert answer.status == 403


async def test_token_becomes_a_cookie_and_leaves_the_address() -> None:
    async with served() as (server, client), client.get(server.address) as answer:
        assert answer.status == 200
        assert "token" not in str(answer.url)
        cookie = answer.history[0].cookies[COOKIE]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"


async def test_page_fetches_nothing_from_elsewhere() -> None:
    async with served() as (server, client), client.get(server.address) as answer:
        text = await answer.text()

        assert "googleapis" not in text
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


async def test_another_site_gets_no_screen() -> None:
    async with served() as (server, client):
        async with client.get(server.address):
            pass
        async with client.get(f"{server.public_url}/ws", headers={"Origin": "http://evil.example"}) as answer:
            assert answer.status == 403


async def test_a_real_screen_comes_through_the_socket(tmp_path: Path) -> None:
    session = write_sample_session(tmp_path / "sample.trtune")
    command = shlex.join([sys.executable, "-m", "trtune", "replay", str(session)])
    seen = b""

    async with served(command) as (server, client), asyncio.timeout(60):
        async with client.get(server.address):
            pass
        async with client.ws_connect(f"{server.public_url}/ws?width=100&height=30") as socket:
            while b"KV cache" not in seen or b"SIMULATED" not in seen:  # they may come one after the other
                message = await socket.receive()
                assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), seen
                seen += message.data if isinstance(message.data, bytes) else message.data.encode()

    assert b"SIMULATED" in seen
