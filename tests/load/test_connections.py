"""Connections: kept, lost, refused, encrypted."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from sessions.requests import RequestStatus
from tests.load.levels import good, run_level
from tests.load.servers import Exchange, serving
from tuner.load.errors import Unreachable
from tuner.load.generator import LoadGenerator
from tuner.load.spec import Level, StopRule


async def close_after_answer(exchange: Exchange) -> bool:
    """As llama.cpp does: announces keep-alive and closes."""
    await exchange.whole()
    return True


async def test_a_server_that_closes_kept_connections_costs_no_request(generator: LoadGenerator) -> None:
    async with serving(close_after_answer) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 4), stop=StopRule(max_requests=60, max_s=None))
    assert (outcome.table.status == RequestStatus.OK).all()
    assert len(seen.bodies) == 60
    assert outcome.value.connections.opened >= 60


async def drop_second(exchange: Exchange) -> bool:
    """Takes a second request on a connection and closes without a word."""
    if exchange.number_on_connection:
        return True
    await exchange.whole()
    return False


async def test_a_request_lost_on_a_used_connection_is_sent_again_once_and_counted(generator: LoadGenerator) -> None:
    async with serving(drop_second) as (url, _):
        outcome = await run_level(generator, url, stop=StopRule(max_requests=6, max_s=None))
    assert (outcome.table.status == RequestStatus.OK).all()
    assert outcome.value.connections.resent == 3
    assert any("sent again" in reason for reason in outcome.value.reasons)


async def test_connections_can_be_fresh_for_every_request(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, endpoint={"reuse_connections": False})
    assert outcome.value.connections.reused == 0
    assert all(b"\r\nConnection: close\r\n" in head for head in seen.heads)


async def test_no_server_is_an_error_at_once(generator: LoadGenerator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(Unreachable, match="refused"):
        await run_level(generator, f"http://127.0.0.1:{port}")
    async with serving(good) as (url, _):
        assert len((await run_level(generator, url)).table) == 4


async def test_ipv6(generator: LoadGenerator) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        context = serving(good, host="::1")
        url, _ = await context.__aenter__()
    except OSError:
        pytest.skip("no IPv6 here")
    outcome = await run_level(generator, url)
    await context.__aexit__(None, None, None)
    assert (outcome.table.status == RequestStatus.OK).all()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with a fresh certificate for 127.0.0.1 and its key."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    if shutil.which("openssl") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no openssl here")
    return tmp_path


async def test_tls_falls_back_to_user_time_and_says_so(generator: LoadGenerator, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    async with serving(good, context) as (url, _):
        trusted = await run_level(generator, url, endpoint={"ca_file": str(certificate / "cert.pem")})
        with pytest.raises(Unreachable, match="certificate"):
            await run_level(generator, url)
    assert (trusted.table.status == RequestStatus.OK).all()
    assert trusted.value.clock == "user"
    # The session tickets that a server sends after the handshake are no reason to part.
    assert trusted.value.connections.opened == 1
    assert trusted.value.connections.reused == 3
    assert (trusted.table.lag_first_us == -1).all()
