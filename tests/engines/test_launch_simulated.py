"""The TensorRT-LLM adapter, the launcher and the GPU source against the simulated engine: the three as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from engines.errors import StartFailed
from engines.gpu import open_gpu_source
from engines.gpu.dcgm import DcgmSource
from engines.knob import Value
from engines.launch.ports import free_port
from engines.launch.process import ProcessServer
from engines.trtllm import ENGINE
from tests.engines.launched import OUTPUT_TOKENS, complete, start

REQUESTS = 8


@pytest.fixture
async def dcgm_port() -> int:
    return free_port()


@pytest.fixture
async def server(tmp_path: Path, dcgm_port: int, http: aiohttp.ClientSession) -> AsyncIterator[ProcessServer]:
    params: dict[str, Value] = {"max_batch_size": 64, "kv_cache_config.free_gpu_memory_fraction": 0.8}
    running = await start(ENGINE, tmp_path, params, "--sim-dcgm-port", str(dcgm_port))
    await running.wait_ready(http, timeout_s=60)
    yield running
    await running.stop()


async def test_settings_are_taken_and_read_back(server: ProcessServer, http: aiohttp.ClientSession) -> None:
    info = await ENGINE.inspect(http, server.url)

    assert info.model == "llama-3.1-8b"
    assert info.effective["max_batch_size"] == 64
    assert ENGINE.effective_from_log(server.log_lines)["kv_cache_config.max_tokens"]


async def test_the_records_add_up_to_what_was_asked_for(server: ProcessServer, http: aiohttp.ClientSession) -> None:
    metrics = ENGINE.metrics(http, server.url)
    samples = list(await metrics.poll())

    await asyncio.gather(*(complete(http, server.url, number) for number in range(REQUESTS)))
    async with asyncio.timeout(30):
        while not samples or samples[-1][1].requests_total < REQUESTS:
            samples += await metrics.poll()
            await asyncio.sleep(0.1)

    times_ns = [when_ns for when_ns, _ in samples]
    assert samples[-1][1].output_tokens_total == REQUESTS * OUTPUT_TOKENS
    assert samples[-1][1].lost_records_total == 0
    assert times_ns == sorted(times_ns)


async def test_its_gpus_are_shown_as_simulated(server: ProcessServer, dcgm_port: int) -> None:
    source = await asyncio.to_thread(open_gpu_source, f"http://127.0.0.1:{dcgm_port}", True)

    assert isinstance(source, DcgmSource)
    assert source.gpus[0].source == "simulated"
    assert source.sample()[0].mem_used_bytes > 0


async def test_memory_that_does_not_suffice_accuses_a_knob(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    running = await start(ENGINE, tmp_path, {"max_num_tokens": 131072, "max_batch_size": 8192}, "--sim-gpu", "l4")

    with pytest.raises(StartFailed) as raised:
        await running.wait_ready(http, timeout_s=60)

    assert raised.value.failure.kind == "out_of_memory"
    assert raised.value.failure.accuses
    assert not running.pids
