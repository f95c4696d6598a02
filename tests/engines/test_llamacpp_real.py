"""A server nobody here wrote: started, asked, watched, stopped, and provoked to fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from engines.errors import StartFailed
from engines.knob import Value
from engines.launch.ports import free_port
from engines.launch.process import ProcessLauncher, ProcessServer, StopGrace
from engines.launch.spec import LaunchRequest
from engines.llamacpp import ENGINE

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.real

OUTPUT_TOKENS = 24
SLOTS = 4


def request(model: Path, tmp_path: Path, params: dict[str, Value]) -> LaunchRequest:
    return LaunchRequest(str(model), params, "127.0.0.1", free_port(), tmp_path)


async def start(what: LaunchRequest) -> ProcessServer:
    return await ProcessLauncher(StopGrace(10.0, 10.0)).start(ENGINE.launch(what), lambda _: None)


@pytest.fixture
async def server(tiny_model: Path, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[ProcessServer]:
    running = await start(request(tiny_model, tmp_path, {"parallel": SLOTS, "threads": 1, "ctx-size": 4096}))
    await running.wait_ready(http, timeout_s=60)
    yield running
    await running.stop()


async def stream(http: aiohttp.ClientSession, url: str, prompt: list[int]) -> list[dict[str, Any]]:
    body = {
        "prompt": prompt,
        "max_tokens": OUTPUT_TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    events = []
    async with http.post(f"{url}/v1/completions", json=body) as response:
        assert response.status == 200
        async for line in response.content:
            if line.startswith(b"data: {"):
                events.append(json.loads(line[6:]))
    return events


async def test_a_completion_of_token_ids_streams_with_usage(server: ProcessServer, http: aiohttp.ClientSession) -> None:
    events = await stream(http, server.url, [300, 301, 302, 303])

    usage = events[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (4, OUTPUT_TOKENS)
    assert sum(bool(choice["text"]) for event in events for choice in event["choices"]) > OUTPUT_TOKENS // 2


async def test_its_metrics_count_what_was_asked_of_it(server: ProcessServer, http: aiohttp.ClientSession) -> None:
    metrics = ENGINE.metrics(http, server.url)
    ((_, before),) = await metrics.poll()

    await asyncio.gather(*(stream(http, server.url, [400 + number] * 8) for number in range(SLOTS)))

    ((_, after),) = await metrics.poll()
    assert after.output_tokens_total - before.output_tokens_total == SLOTS * OUTPUT_TOKENS
    assert after.prompt_tokens_total - before.prompt_tokens_total == SLOTS * 8
    assert (after.running, after.max_batch_size, after.kv_capacity_tokens) == (0, SLOTS, 4096)


async def test_its_settings_are_read_back(server: ProcessServer, http: aiohttp.ClientSession) -> None:
    info = await ENGINE.inspect(http, server.url)

    assert info.model == "tiny"
    assert info.effective == {"parallel": SLOTS, "ctx-size": 4096}
    assert ENGINE.effective_from_log(server.log_lines)["threads"] == 1


async def test_nothing_is_left_of_it(tiny_model: Path, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    running = await start(request(tiny_model, tmp_path, {}))
    await running.wait_ready(http, timeout_s=60)
    pids = running.pids

    await running.stop()

    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize(
    ("params", "kind", "accused"),
    [
        ({"parallel": 32, "batch-size": 32, "cache-type-v": "q8_0", "flash-attn": "off"}, "bad_config", "cache-type-v"),
        ({"parallel": 64, "batch-size": 32}, "bad_config", "batch-size"),
    ],
)
async def test_settings_it_cannot_take_are_recognised_from_its_own_words(
    tiny_model: Path,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    params: dict[str, Value],
    kind: str,
    accused: str,
) -> None:
    running = await start(request(tiny_model, tmp_path, params))

    with pytest.raises(StartFailed) as raised:
        await running.wait_ready(http, timeout_s=60)

    assert raised.value.failure.kind == kind
    assert raised.value.failure.accuses[0] == accused
    assert raised.value.failure.infeasible


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"this is no model"])
async def test_a_model_it_cannot_load_is_not_blamed_on_the_settings(
    tmp_path: Path, http: aiohttp.ClientSession, content: bytes | None
) -> None:
    model = tmp_path / "broken.gguf"
    if content is not None:
        model.write_bytes(content)
    running = await start(request(model, tmp_path, {}))

    with pytest.raises(StartFailed, match="model") as raised:
        await running.wait_ready(http, timeout_s=60)

    assert raised.value.failure.kind == "bad_model"
    assert not raised.value.failure.infeasible


async def test_an_unknown_flag_is_recognised(tiny_model: Path, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    plan = request(tiny_model, tmp_path, {})
    running = await start(LaunchRequest(plan.model, {}, plan.host, plan.port, tmp_path, arguments=("--no-such-flag",)))

    with pytest.raises(StartFailed, match="does not know an argument") as raised:
        await running.wait_ready(http, timeout_s=60)

    assert raised.value.failure.exit_code == 2
