"""The vLLM adapter and the launcher against the simulated engine in vLLM's dialect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from engines.errors import StartFailed
from engines.knob import Value
from engines.launch.process import ProcessServer
from engines.vllm import ENGINE
from tests.engines.launched import OUTPUT_TOKENS, complete, start

DIALECT = ("--sim-dialect", "vllm")
REQUESTS = 8


@pytest.fixture
async def server(tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[ProcessServer]:
    running = await start(
        ENGINE, tmp_path, {"max-num-seqs": 64, "gpu-memory-utilization": 0.8, "max-model-len": 4096}, *DIALECT
    )
    await running.wait_ready(http, timeout_s=60)
    yield running
    await running.stop()


async def test_settings_are_taken_and_read_back(server: ProcessServer, http: aiohttp.ClientSession) -> None:
    info = await ENGINE.inspect(http, server.url)

    assert info.model == "llama-3.1-8b"
    assert info.effective["gpu-memory-utilization"] == 0.8
    assert info.effective["max-model-len"] == 4096
    assert ENGINE.effective_from_log(server.log_lines)["max-model-len"] == 4096


async def test_counters_add_up_to_what_was_asked_for(server: ProcessServer, http: aiohttp.ClientSession) -> None:
    metrics = ENGINE.metrics(http, server.url)
    ((_, before),) = await metrics.poll()

    await asyncio.gather(*(complete(http, server.url, number) for number in range(REQUESTS)))
    ((_, after),) = await metrics.poll()

    assert before.kv_capacity_tokens > 4096
    assert after.output_tokens_total == REQUESTS * OUTPUT_TOKENS
    assert after.requests_total == REQUESTS
    assert after.queue_ms >= 0
    assert (after.running, after.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("params", "kind", "accused"),
    [
        ({"gpu-memory-utilization": 0.1}, "out_of_memory", "gpu-memory-utilization"),
        ({"max-model-len": 9_000_000}, "bad_config", "max-model-len"),
        ({"tensor-parallel-size": 4}, "bad_config", "tensor-parallel-size"),
    ],
)
async def test_settings_that_cannot_work_accuse_a_knob(
    tmp_path: Path, http: aiohttp.ClientSession, params: dict[str, Value], kind: str, accused: str
) -> None:
    running = await start(ENGINE, tmp_path, params, *DIALECT)

    with pytest.raises(StartFailed) as raised:
        await running.wait_ready(http, timeout_s=60)

    assert raised.value.failure.kind == kind
    assert raised.value.failure.accuses[0] == accused
    assert not running.pids
