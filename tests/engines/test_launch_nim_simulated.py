"""The NIM adapter and the launcher against the simulated engine in NIM's dialect, both lines."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from engines.knob import Value
from engines.launch.container import Container
from engines.launch.ports import free_port
from engines.launch.process import ProcessLauncher, ProcessServer, StopGrace
from engines.launch.spec import LaunchRequest, LaunchSpec
from engines.nim import ENGINE, PROFILE, Line, parse_profiles, runnable
from engines.simulated.greedy import GreedyModel

QUICK = ("--sim-dialect", "nim", "--sim-gpu", "h100-sxm", "--sim-time-scale", "0.001")
OUTPUT_TOKENS = 32
REQUESTS = 8


async def start(tmp_path: Path, command: str, params: dict[str, Value], *more: str) -> ProcessServer:
    words = (sys.executable, "-m", "engines.simulated", command)
    request = LaunchRequest(
        "llama-3.1-8b", params, "127.0.0.1", free_port(), tmp_path, command=words, arguments=(*QUICK, *more)
    )
    return await ProcessLauncher(StopGrace(20.0, 10.0)).start(ENGINE.launch(request), lambda _: None)


async def complete(http: aiohttp.ClientSession, url: str, model: str) -> None:
    body = {"model": model, "prompt": "hello " * 50, "max_tokens": OUTPUT_TOKENS, "ignore_eos": True}
    async with http.post(f"{url}/v1/completions", json=body) as response:
        assert response.status == 200, await response.text()
        await response.read()


@pytest.mark.parametrize(
    ("command", "params", "line", "effective"),
    [
        ("nim-serve", {"gpu-memory-utilization": 0.8, "max-model-len": 4096}, Line.VLLM, {"max-model-len": 4096}),
        ("nim-run", {"NIM_KVCACHE_PERCENT": 0.8, "NIM_MAX_MODEL_LEN": 4096}, Line.V1, {"NIM_MAX_MODEL_LEN": 4096}),
    ],
)
async def test_a_server_of_each_line_is_started_and_measured(
    tmp_path: Path,
    http: aiohttp.ClientSession,
    command: str,
    params: dict[str, Value],
    line: Line,
    effective: dict[str, Value],
) -> None:
    server = await start(tmp_path, command, params)
    await server.wait_ready(http, timeout_s=60)

    info = await ENGINE.inspect(http, server.url)
    await asyncio.gather(*(complete(http, server.url, info.model) for _ in range(REQUESTS)))
    ((_, sample),) = await ENGINE.metrics(http, server.url).poll()
    await server.stop()

    assert info.notes == (f"NIM {line.value}",)
    assert effective.items() <= info.effective.items()
    assert sample.output_tokens_total == REQUESTS * OUTPUT_TOKENS
    assert sample.requests_total == REQUESTS
    assert (sample.running, sample.waiting) == (0, 0)


async def test_a_stated_loss_changes_the_answers_of_an_altered_model(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    server = await start(tmp_path, "nim-serve", {"kv-cache-dtype": "fp8"}, "--sim-answer-loss", "fp8=1")
    await server.wait_ready(http, timeout_s=60)

    body = {"model": "llama-3.1-8b", "prompt": "hello", "max_tokens": 1, "temperature": 0}
    async with http.post(f"{server.url}/v1/completions", json=body) as response:
        told = (await response.json())["choices"][0]["text"]
    await server.stop()

    ((unaltered, _),) = GreedyModel({}).answer("hello", 1)
    assert told
    assert told != unaltered


async def run(spec: LaunchSpec) -> tuple[int, list[str]]:
    """A command that ends by itself, in the simulated engine's place of a container."""
    words = (sys.executable, "-m", "engines.simulated", *spec.argv, *QUICK)
    process = await asyncio.create_subprocess_exec(
        *words, env=os.environ | spec.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode().splitlines()


async def test_the_profiles_of_an_image_become_a_knob() -> None:
    request = LaunchRequest("llama-3.1-8b", {}, "127.0.0.1", 1, Path("w"), container=Container("registry/nim:2.0.5"))
    _, lines = await run(ENGINE.list_profiles(request))

    found = runnable(parse_profiles(lines))

    assert found
    for profile in found:
        assert ENGINE.launch(replace(request, params={PROFILE: profile.id})).environment[PROFILE] == profile.id


@pytest.mark.parametrize(("arguments", "works"), [((), True), (("--no-such-flag",), False)])
async def test_a_configuration_is_checked_without_a_start(arguments: tuple[str, ...], works: bool) -> None:
    request = LaunchRequest("llama-3.1-8b", {"max-num-seqs": 8}, "127.0.0.1", 1, Path("w"), arguments=arguments)
    spec = ENGINE.pre_check(request)
    assert spec is not None

    code, lines = await run(spec)

    found = [rule.kind for rule in spec.failures for line in lines if rule.pattern.search(line)]
    assert (code == 0) is works
    assert found == ([] if works else ["bad_config"])
