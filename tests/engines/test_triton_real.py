"""The Triton engine with a real Triton: start from its own specification, inspect, reload, fail and come back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from engines.errors import StartFailed
from engines.launch.spec import LaunchRequest, LaunchSpec
from engines.registry import get_engine
from engines.sample import EngineSample

from .real_engines import CannotRun
from .triton_servers import REPOSITORY, SHARED_MEMORY, free_ports, real_command, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]

MODEL = "tensorrt_llm"
START_S = 60.0


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A real Triton started as the engine says, without settings changed."""
    try:
        command, environment = real_command(tmp_path)
    except CannotRun as error:
        pytest.skip(f"no real Triton: {error}")
    program, *arguments = command
    words = (*arguments, "--exit-timeout-secs=3")
    request = LaunchRequest(str(REPOSITORY), {}, "127.0.0.1", free_ports(1)[0], tmp_path, (program,), words)
    spec = get_engine("triton").launch(request)
    for path, text in spec.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with process_of(spec, environment, tmp_path / "log"):
        yield spec.url


@contextmanager
def process_of(spec: LaunchSpec, environment: dict[str, str], log: Path) -> Iterator[None]:
    before = set(SHARED_MEMORY.glob("triton_python_backend_shm_region_*"))
    with log.open("wb") as output:
        process = subprocess.Popen(spec.argv, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield
    finally:
        stop(process)
        for path in set(SHARED_MEMORY.glob("triton_python_backend_shm_region_*")) - before:
            path.unlink(missing_ok=True)


async def wait_until_ready(http: aiohttp.ClientSession, url: str) -> None:
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            async with http.get(f"{url}/v2/health/ready") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            assert time.monotonic() < deadline_s
        await asyncio.sleep(0.1)


async def sample_with_a_request(http: aiohttp.ClientSession, url: str) -> EngineSample:
    """The first sample that counts a request: Triton does so a moment after the stream has ended."""
    metrics = get_engine("triton").metrics(http, url)
    deadline_s = time.monotonic() + START_S
    while True:
        ((_, sample),) = await metrics.poll()
        if sample.requests_total > 0 or time.monotonic() > deadline_s:
            return sample
        await asyncio.sleep(0.05)


async def streamed(http: aiohttp.ClientSession, url: str) -> list[str]:
    """The words of one answer."""
    body = {"text_input": "one two three", "streaming": True, "sampling_param_max_tokens": 3}
    async with http.post(f"{url}/v2/models/{MODEL}/generate_stream", json=body) as answer:
        text = await answer.text()
    return [json.loads(part.removeprefix("data: "))["text_output"] for part in text.split("\n\n") if part.strip()]


async def test_settings_are_reloaded_read_back_and_given_up_when_the_model_does_not_start(url: str) -> None:
    engine = get_engine("triton")
    async with aiohttp.ClientSession() as http:
        await wait_until_ready(http, url)
        started = await engine.inspect(http, url)
        await engine.reload(http, url, {"max_batch_size": 16, "kv_cache_config.free_gpu_memory_fraction": 0.7})
        changed = await engine.inspect(http, url)
        with pytest.raises(StartFailed) as raised:
            await engine.reload(http, url, {"max_batch_size": 13})
        after = await engine.inspect(http, url)
        words = await streamed(http, url)
        sample = await sample_with_a_request(http, url)

    assert (started.version, started.model, dict(started.effective)) == ("2.51.0", MODEL, {})
    assert dict(changed.effective) == {"max_batch_size": 16, "kv_cache_config.free_gpu_memory_fraction": 0.7}
    assert raised.value.failure.kind == "out_of_memory"
    assert after.effective == changed.effective
    assert words == ["one", "two", "three"]
    assert (sample.requests_total, sample.running, sample.waiting, sample.max_batch_size) == (1, 2, 1, 8)
