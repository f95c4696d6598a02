"""The engines of vLLM and NIM with the simulated servers of the same dialects: start, inspect, metrics, failures."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from engines.launch.spec import LaunchRequest, LaunchSpec
from engines.registry import get_engine
from engines.sample import EngineSample

from .triton_servers import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from engines.knob import Value

ROOT = Path(__file__).parents[2]
MODEL = "llama-3.1-8b"
START_S = 60.0


def specification(name: str, folder: Path, params: Mapping[str, Value], *words: str) -> LaunchSpec:
    command = (sys.executable, "-m", "engines.simulated", "--sim-gpu", "h200", "--sim-time-scale", "0.002", *words)
    request = LaunchRequest(MODEL, params, "127.0.0.1", free_ports(1)[0], folder, command=command)
    return get_engine(name).launch(request)


def started(spec: LaunchSpec, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        environment = {**os.environ, **spec.environment}
        return subprocess.Popen(spec.argv, stdout=output, stderr=output, cwd=ROOT, env=environment)


@asynccontextmanager
async def served(spec: LaunchSpec, log: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """A server started from an engine's specification, once it is ready."""
    process = started(spec, log)
    try:
        async with aiohttp.ClientSession() as http:
            deadline_s = time.monotonic() + START_S
            while not await is_ready(http, spec.url + spec.ready_path):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline_s, log.read_text()
                await asyncio.sleep(0.05)
            yield http
    finally:
        process.terminate()
        process.wait(20)


async def is_ready(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def completed(http: aiohttp.ClientSession, url: str) -> None:
    body = {"model": MODEL, "prompt": list(range(64)), "max_tokens": 32, "ignore_eos": True}
    async with http.post(f"{url}/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def sample_of(name: str, http: aiohttp.ClientSession, url: str) -> EngineSample:
    ((_, sample),) = await get_engine(name).metrics(http, url).poll()
    return sample


async def test_vllm_reads_back_what_it_started_and_counts(tmp_path: Path) -> None:
    params: dict[str, Value] = {"max-num-seqs": 64, "gpu-memory-utilization": 0.8, "max-model-len": 4096}
    params["max-num-batched-tokens"] = 4096
    spec = specification("vllm", tmp_path, params, "--sim-dialect", "vllm", "serve")
    async with served(spec, tmp_path / "log") as http:
        await completed(http, spec.url)
        info = await get_engine("vllm").inspect(http, spec.url)
        sample = await sample_of("vllm", http, spec.url)

    effective = dict(info.effective) | get_engine("vllm").effective_from_log(
        (tmp_path / "log").read_text().splitlines()
    )
    assert info.version == "0.24.0"
    assert {name: effective[name] for name in params} == params
    assert (sample.prompt_tokens_total, sample.output_tokens_total, sample.requests_total) == (64, 32, 1)
    assert (sample.running, sample.waiting) == (0, 0)
    assert sample.kv_capacity_tokens > 100_000


@pytest.mark.parametrize(
    ("words", "params", "line"),
    [
        (("--sim-dialect", "nim", "nim-run"), {"NIM_MAX_MODEL_LEN": 4096, "NIM_MAX_BATCH_SIZE": 64}, "1.x"),
        (("--sim-dialect", "nim", "nim-serve"), {"max-model-len": 4096, "max-num-seqs": 64}, "2.x"),
    ],
)
async def test_nim_tells_its_line_reads_back_its_length_and_counts(
    words: tuple[str, ...], params: dict[str, Value], line: str, tmp_path: Path
) -> None:
    spec = specification("nim", tmp_path, {} if line == "1.x" else params, *words)
    if line == "1.x":
        spec = with_environment(spec, {name: str(value) for name, value in params.items()})
    async with served(spec, tmp_path / "log") as http:
        await completed(http, spec.url)
        info = await get_engine("nim").inspect(http, spec.url)
        sample = await sample_of("nim", http, spec.url)

    length = next(name for name in params if "LEN" in name.upper())
    assert line.rstrip("x") in " ".join(info.notes) or info.version.startswith(line[0])
    assert info.effective[length] == 4096
    assert (sample.prompt_tokens_total, sample.output_tokens_total) == (64, 32)


def with_environment(spec: LaunchSpec, variables: Mapping[str, str]) -> LaunchSpec:
    return LaunchSpec(spec.argv, spec.url, spec.ready_path, {**spec.environment, **variables}, failures=spec.failures)


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"gpu-memory-utilization": 0.1}, "out_of_memory"),
        ({"max-model-len": 10_000_000}, "bad_config"),
        ({"tensor-parallel-size": 4}, "bad_config"),
    ],
)
def test_a_failed_start_of_vllm_is_explained(params: dict[str, Value], kind: str, tmp_path: Path) -> None:
    spec = specification("vllm", tmp_path, params, "--sim-dialect", "vllm", "serve")

    process = started(spec, tmp_path / "log")
    code = process.wait(START_S)

    lines = (tmp_path / "log").read_text().splitlines()
    found = [rule.kind for rule in spec.failures for line in lines if rule.pattern.search(line)]
    assert code == 1
    assert found[0] == kind
