"""The Triton engines against the simulated server: start, inspect, reload with its way back, metrics."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from engines._prometheus import parse_page
from engines._triton_control import index
from engines._triton_metrics import metrics_url, sample_of_page
from engines._triton_pbtxt import parse_pbtxt
from engines.base import Engine
from engines.errors import BadConfiguration, EngineError, StartFailed, Unreachable
from engines.launch.spec import LaunchRequest, LaunchSpec
from engines.registry import get_engine
from engines.sample import EngineSample

from .triton_servers import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from engines.knob import Value

DATA = Path(__file__).parents[1] / "data" / "triton"
REPOSITORIES = {"triton": "repository", "triton_engines": "engines", "triton_vllm": "vllm"}
SIMULATED = (sys.executable, "-m", "engines.simulated", "serve", "--sim-dialect", "triton", "--sim-gpu", "h200")
START_S = 60.0


def repository_of(name: str, folder: Path) -> Path:
    """A user's repository for an engine, with a model the simulation knows."""
    target = folder / "user"
    shutil.copytree(DATA / REPOSITORIES[name], target)
    settings = target / "tensorrt_llm" / "1" / "model.yaml"
    if settings.is_file():
        settings.write_text(settings.read_text().replace("model: stand-in", "model: llama-3.1-8b\nmax_seq_len: 2048"))
    return target


def two_apart() -> int:
    """A port whose second neighbour is free as well."""
    while True:
        port = free_ports(1)[0]
        if port < 65000:
            return port


def launch(name: str, folder: Path, params: Mapping[str, Value], port: int = 8123) -> LaunchSpec:
    model = str(repository_of(name, folder))
    words = ("--sim-time-scale", "0.002")
    request = LaunchRequest(model, params, "127.0.0.1", port, folder, command=SIMULATED, arguments=words)
    return get_engine(name).launch(request)


@asynccontextmanager
async def served(
    name: str, folder: Path, params: Mapping[str, Value]
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A simulated Triton started from an engine's own specification."""
    spec = launch(name, folder, params, two_apart())
    for path, text in spec.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with process_of(spec, folder / "log") as process:
        async with aiohttp.ClientSession() as http:
            await wait_until_ready(http, spec, process, folder / "log")
            yield http, spec.url


@contextmanager
def process_of(spec: LaunchSpec, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, ended afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(spec.argv, stdout=output, stderr=output, cwd=Path(__file__).parents[2])
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


async def wait_until_ready(
    http: aiohttp.ClientSession, spec: LaunchSpec, process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            async with http.get(spec.url + spec.ready_path) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)
    pytest.fail(f"the server is not ready: {log.read_text()[-1000:]}")


CHANGES: dict[str, dict[str, Value]] = {
    "triton": {"max_batch_size": 16, "kv_cache_config.free_gpu_memory_fraction": 0.7},
    "triton_engines": {"kv_cache_free_gpu_mem_fraction": 0.7, "batch_scheduler_policy": "max_utilization"},
    "triton_vllm": {"max_num_seqs": 16, "gpu_memory_utilization": 0.8},
}
TOO_MUCH: dict[str, dict[str, Value]] = {
    "triton": {"max_num_tokens": 131072, "max_batch_size": 8192, "tensor_parallel_size": 64},
    "triton_vllm": {"gpu_memory_utilization": 0.05},
}


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_launch_serves_a_copy_and_leaves_the_users_files_alone(name: str, tmp_path: Path) -> None:
    spec = launch(name, tmp_path, CHANGES[name])

    folder = tmp_path / "repository"
    assert spec.argv[spec.argv.index("--model-repository") + 1] == str(folder)
    assert all(path.is_relative_to(folder) for path in spec.files)
    originals = {path.relative_to(tmp_path / "user") for path in (tmp_path / "user").rglob("*") if path.is_file()}
    assert {path.relative_to(folder) for path in spec.files} == originals


def test_settings_go_where_each_backend_reads_them(tmp_path: Path) -> None:
    written: dict[tuple[str, str, str], str] = {}
    for name in REPOSITORIES:
        (tmp_path / name).mkdir()
        spec = launch(name, tmp_path / name, CHANGES[name])
        written |= {(name, path.name, path.parts[-2]): text for path, text in spec.files.items()}

    settings = yaml.safe_load(written["triton", "model.yaml", "1"])
    assert settings["kv_cache_config"]["free_gpu_memory_fraction"] == 0.7
    assert (settings["max_batch_size"], settings["triton_config"]["decoupled"]) == (16, True)
    parameters = parse_pbtxt(written["triton_engines", "config.pbtxt", "tensorrt_llm"], "config")["parameters"]
    assert parameters["kv_cache_free_gpu_mem_fraction"] == {"string_value": "0.7"}
    arguments = json.loads(written["triton_vllm", "model.json", "1"])
    assert (arguments["max_num_seqs"], arguments["max_model_len"]) == (16, 2048)


def test_graphs_switched_off_are_null_and_never_a_key_of_ours(tmp_path: Path) -> None:
    for value in (True, False):
        (tmp_path / str(value)).mkdir()
        spec = launch("triton", tmp_path / str(value), {"cuda_graph_config.enabled": value})
        (text,) = (text for path, text in spec.files.items() if path.name == "model.yaml")

        assert yaml.safe_load(text)["cuda_graph_config"] == ({} if value else None)


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("triton", {"enable_chunked_prefill": True, "max_num_tokens": 1001}, "multiple of tokens_per_block"),
        ("triton_vllm", {"max_num_seqs": 512, "max_num_batched_tokens": 256}, "each request needs a token"),
        ("triton_engines", {"enable_chunked_context": True}, None),
    ],
)
def test_conflicts_are_those_of_the_engine_inside(name: str, params: dict[str, Value], text: str | None) -> None:
    found = get_engine(name).conflicts(params)

    assert found is None if text is None else text in (found or "")


def test_behind_a_bridge_the_metrics_port_is_mapped_as_well(tmp_path: Path) -> None:
    request = LaunchRequest(str(repository_of("triton", tmp_path)), {}, "127.0.0.1", 8100, tmp_path / "work")

    assert get_engine("triton").launch(request).ports == (0, 2)


def test_settings_without_a_repository_of_this_host_are_refused() -> None:
    request = LaunchRequest("elsewhere/models", {"max_batch_size": 8}, "127.0.0.1", 8123, Path("work"))

    with pytest.raises(BadConfiguration, match="no model repository of this host: max_batch_size cannot be written"):
        get_engine("triton").launch(request)


def test_a_repository_of_another_backend_is_refused(tmp_path: Path) -> None:
    request = LaunchRequest(str(repository_of("triton_vllm", tmp_path)), {}, "127.0.0.1", 8123, tmp_path)

    with pytest.raises(
        BadConfiguration, match=r"must hold one model with backend 'python' and 1/model.yaml; it holds 0"
    ):
        get_engine("triton").launch(request)


@pytest.mark.parametrize("name", REPOSITORIES)
async def test_a_server_is_started_inspected_reloaded_and_read(name: str, tmp_path: Path) -> None:
    engine = get_engine(name)
    async with served(name, tmp_path, {}) as (http, url):
        before = await engine.inspect(http, url)
        await engine.reload(http, url, CHANGES[name])
        after = await engine.inspect(http, url)
        sample = await newest(engine, http, url)

    assert before.model == {"triton_engines": "ensemble", "triton_vllm": "vllm_model"}.get(name, "tensorrt_llm")
    assert {**after.effective, **CHANGES[name]} == after.effective
    assert sample.requests_total == 0


async def newest(engine: Engine, http: aiohttp.ClientSession, url: str) -> EngineSample:
    ((_, sample),) = await engine.metrics(http, url).poll()
    return sample


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_a_reload_that_fails_says_why_and_the_former_settings_serve_again(name: str, tmp_path: Path) -> None:
    engine = get_engine(name)
    async with served(name, tmp_path, CHANGES[name]) as (http, url):
        with pytest.raises(StartFailed) as raised:
            await engine.reload(http, url, TOO_MUCH[name])
        after = await engine.inspect(http, url)
        states = [row.state for row in await index(http, url)]

    assert raised.value.failure.kind in ("out_of_memory", "bad_config", "too_few_gpus")
    assert {**after.effective, **CHANGES[name]} == after.effective
    assert states == ["READY"]


async def test_a_server_that_trtune_did_not_start_keeps_its_settings(tmp_path: Path) -> None:
    models = repository_of("triton", tmp_path)
    port = two_apart()
    words = ("--model-repository", str(models), "--model-control-mode", "explicit", "--load-model", "*")
    ports = ("--http-address", "127.0.0.1", "--http-port", str(port), "--metrics-port", str(port + 2))
    spec = LaunchSpec(
        (*SIMULATED, *words, *ports, "--sim-time-scale", "0.002"), f"http://127.0.0.1:{port}", "/v2/health/ready"
    )
    with process_of(spec, tmp_path / "log") as process:
        async with aiohttp.ClientSession() as http:
            await wait_until_ready(http, spec, process, tmp_path / "log")
            with pytest.raises(BadConfiguration, match="the files of model 'tensorrt_llm' are not known"):
                await get_engine("triton").reload(http, spec.url, {"max_batch_size": 4})
            states = [row.state for row in await index(http, spec.url)]

    assert states == ["READY"]


async def test_load_moves_queue_batch_and_kv_cache_of_the_engines_backend(tmp_path: Path) -> None:
    engine = get_engine("triton_engines")
    body = {"text_input": "word " * 400, "max_tokens": 200, "min_tokens": 200, "stream": True}
    async with served("triton_engines", tmp_path, {}) as (http, url):

        async def stream() -> int:
            async with http.post(f"{url}/v2/models/ensemble/generate_stream", json=body) as answer:
                return (await answer.read()).count(b"data: ")

        streams = [asyncio.create_task(stream()) for _ in range(4)]
        await asyncio.sleep(0.4)
        during = await newest(engine, http, url)
        counts = await asyncio.gather(*streams)
        after = await newest(engine, http, url)

    assert counts == [200] * 4
    assert during.running == 4
    assert during.max_batch_size == 64
    assert 0 < during.kv_used_ratio < 1
    assert during.kv_capacity_tokens > 10_000
    assert (after.running, after.requests_total, after.output_tokens_total) == (0, 4, 800)


async def test_an_address_where_nobody_answers_is_unreachable() -> None:
    port = free_ports(1)[0]
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Unreachable):
            await get_engine("triton").inspect(http, f"http://127.0.0.1:{port}")


def test_the_metrics_port_lies_two_above() -> None:
    assert metrics_url("http://host:8000") == "http://host:8002/metrics"
    assert metrics_url("http://[::1]:9000") == "http://[::1]:9002/metrics"


def test_a_page_without_the_engines_families_leaves_its_fields_unknown() -> None:
    page = parse_page('nv_inference_request_success{model="m",version="1"} 7\n', "page")

    sample = sample_of_page(page)

    assert sample.requests_total == 7
    assert all(map(math.isnan, (sample.running, sample.waiting, sample.kv_used_ratio, sample.kv_capacity_tokens)))


async def test_a_page_of_another_server_is_refused() -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(text="<html>busy</html>")

    app = web.Application()
    app.router.add_get("/metrics", busy)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{(server.port or 0) - 2}"
        with pytest.raises(EngineError, match=r"not Prometheus text|no metrics of Triton"):
            await get_engine("triton").metrics(http, url).poll()
