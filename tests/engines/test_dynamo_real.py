"""NVIDIA Dynamo's frontend with its mock worker: a server, a scheduler and metrics that nobody here wrote.

Scheduling, KV blocks and the queue are those of NVIDIA's simulator, and step times are like a GPU's; the tokens mean nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from engines._page_metrics import PageMetrics
from engines._vllm_metrics import VllmReader
from engines.errors import EngineError, StartFailed
from engines.launch.ports import require_free
from engines.launch.process import ProcessLauncher, ProcessServer, StopGrace
from engines.launch.spec import LaunchSpec
from engines.openai import ENGINE
from sessions.reader import SessionReader
from tests.engines.real_engines import CannotRun, environment, quiet_environment, write_model_folder
from tests.trtune.conftest import Program

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("dynamo")]

SCRIPT = Path(__file__).with_name("serve_dynamo.py")
CONCURRENCY = 16
OUTPUT_TOKENS = 48
START_LIMIT_S = 120.0

Start = Callable[..., Awaitable[ProcessServer]]


@pytest.fixture(scope="session")
def python() -> Path:
    """Dynamo's own environment."""
    try:
        return environment("dynamo", check="import dynamo.mocker, dynamo.frontend")
    except CannotRun as reason:
        pytest.skip(str(reason))


@pytest.fixture
async def start(python: Path, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[Start]:
    """Starts Dynamo with words for its mock worker; the worker's own metrics are one port above the frontend's."""
    model = write_model_folder(tmp_path / "tiny")
    started: list[ProcessServer] = []

    async def run(*words: str) -> ProcessServer:
        port = low_port()
        ports = ("--port", str(port), "--worker-port", str(port + 1), "--state", str(tmp_path / f"state-{port}"))
        argv = (str(python), str(SCRIPT), "--model", str(model), *ports, "--", *words)
        spec = LaunchSpec(argv, f"http://127.0.0.1:{port}", "/v1/models", environment=quiet_environment())
        server = await ProcessLauncher(StopGrace(10.0, 10.0)).start(spec, lambda _: None)
        started.append(server)
        await server.wait_ready(http, START_LIMIT_S)
        deadline_s = time.monotonic() + START_LIMIT_S
        while not await _serves(http, server.url):
            assert server.pids, server.log_lines[-20:]
            assert time.monotonic() < deadline_s, server.log_lines[-20:]
            await asyncio.sleep(0.2)
        return server

    yield run
    for server in started:
        await server.stop()
        assert server.pids == ()


def low_port() -> int:
    """A free port with a free neighbour, both below 32768: Dynamo reads its worker's port as a signed number of 16 bits."""
    for port in random.sample(range(20_000, 32_000, 2), 200):
        try:
            require_free(f"http://127.0.0.1:{port}")
            require_free(f"http://127.0.0.1:{port + 1}")
        except StartFailed:
            continue
        return port
    raise AssertionError("no free port")


async def _serves(http: aiohttp.ClientSession, url: str) -> bool:
    """Whether the frontend has found its worker: it answers before that, with an empty list of models."""
    try:
        return bool((await ENGINE.inspect(http, url)).model)
    except EngineError:
        return False


async def ask(http: aiohttp.ClientSession, url: str) -> None:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "bobo " * 20}],
        "max_tokens": OUTPUT_TOKENS,
        "ignore_eos": True,
        "stream": True,
    }
    async with http.post(f"{url}/v1/chat/completions", json=body) as response:
        assert response.status == 200
        await response.read()


async def test_frontend_and_worker_tell_the_queue_and_the_settings_in_force(
    start: Start, http: aiohttp.ClientSession
) -> None:
    server = await start("--max-num-seqs", "2")
    host, _, port = server.url.rpartition(":")
    front = ENGINE.metrics(http, server.url)
    inside = PageMetrics(http, f"{host}:{int(port) + 1}/metrics", VllmReader().read, "", "vLLM")

    await ask(http, server.url)  # the worker has no metrics before its first request
    load = [asyncio.create_task(ask(http, server.url)) for _ in range(CONCURRENCY)]
    waiting = running = 0.0
    while not all(task.done() for task in load):
        ((_, sample),) = await inside.poll()
        waiting, running = max(waiting, sample.waiting), max(running, sample.running)
        await asyncio.sleep(0.02)
    await asyncio.gather(*load)
    ((_, after),) = await front.poll()

    assert 1 <= running <= 2
    assert waiting > 2
    assert after.max_batch_size == 2
    assert after.kv_capacity_tokens > 0
    assert after.output_tokens_total == (1 + CONCURRENCY) * OUTPUT_TOKENS
    assert after.requests_total == 1 + CONCURRENCY
    assert (after.running, after.waiting) == (0, 0)


async def test_a_bench_sees_that_fewer_slots_serve_less(start: Start, tmp_path: Path) -> None:
    throughput = {}
    for slots in (2, 64):
        server = await start("--max-num-seqs", str(slots))
        session = tmp_path / f"{slots}.trtune"
        words = ("--concurrency", str(CONCURRENCY), "--isl", "64", "--osl", str(OUTPUT_TOKENS), "--duration", "6")
        run = ("bench", server.url, *words, "--json", "--session", session, "--set", "gpu.local=false")
        with contextlib.closing(Program(session)) as program:
            done = await asyncio.to_thread(program.run, *run)
        assert done.returncode == 0, done.stdout + done.stderr
        with SessionReader(session) as reader:
            (level,) = reader.levels()
            assert level.state == "valid", level.notes
            throughput[slots] = level.result["output_token_throughput"]["avg"]

    assert throughput[2] < throughput[64] / 2
