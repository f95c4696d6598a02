"""A server that somebody else runs."""

from __future__ import annotations

import socket

import aiohttp
import pytest
from aiohttp import web

from engines.errors import BadConfiguration, StartFailed, Unreachable
from engines.launch.attach import AttachedServer
from engines.launch.ports import free_port, local_url, require_free, split_url

from .conftest import Serve


async def well(_: web.Request) -> web.Response:
    return web.Response()


async def busy(_: web.Request) -> web.Response:
    return web.Response(status=503)


async def test_an_attached_server_is_ready_when_it_answers(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = AttachedServer(await serve({"/health": well}) + "/")

    await server.wait_ready(http, timeout_s=10)

    assert await server.check(http) is None
    assert not server.owned
    assert server.pids == ()


async def test_stopping_leaves_it_running(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = AttachedServer(await serve({"/health": well}))

    await server.stop()

    assert await server.check(http) is None


async def test_nobody_there_is_said_in_one_line(http: aiohttp.ClientSession) -> None:
    server = AttachedServer(f"http://127.0.0.1:{free_port()}")

    with pytest.raises(
        Unreachable, match=r"cannot be reached: .*; is the URL right and the server running\?"
    ) as raised:
        await server.wait_ready(http, timeout_s=0.1)

    assert "\n" not in str(raised.value)


async def test_a_server_that_is_not_well_is_never_blamed_on_a_configuration(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    server = AttachedServer(await serve({"/health": busy}))

    failure = await server.check(http)

    assert failure is not None
    assert "503" in failure.text
    assert not failure.infeasible


@pytest.mark.parametrize("url", ["", "host:8000", "ftp://host", "http://", "http://host:port", "http://host:99999"])
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(BadConfiguration, match="URL"):
        AttachedServer(url)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("gpu-box", "http://gpu-box:80"),
    ],
)
def test_the_url_of_a_listening_address(host: str, url: str) -> None:
    assert local_url(host, 80) == url


def test_a_url_without_a_port_has_its_schemes_port() -> None:
    assert split_url("https://host") == ("host", 443)


async def test_a_health_page_without_end_is_no_health(serve: Serve, http: aiohttp.ClientSession) -> None:
    async def endless(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 10_000_001)

    failure = await AttachedServer(await serve({"/health": endless})).check(http)

    assert failure is not None
    assert "more than 10000000 bytes" in failure.text


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(StartFailed, match="choose an address of this machine"):
        require_free("http://192.0.2.1:8000")
    with pytest.raises(StartFailed, match="choose an address of this machine"):
        free_port("192.0.2.1")


def test_a_name_that_also_stands_for_another_machine_can_be_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    port = free_port("two-homes")

    require_free(f"http://two-homes:{port}")
