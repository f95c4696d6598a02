"""llama.cpp's server: its command line, its metrics, what it says of itself."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engines.errors import EngineError
from engines.knob import Value
from engines.launch.spec import LaunchRequest
from engines.llamacpp import ENGINE

from .conftest import Handler, Serve

PAGE = """\
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 300
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 100
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 640
# TYPE llamacpp:n_decode_total counter
llamacpp:n_decode_total 90
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 4
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 7
"""
PROPS = {"total_slots": 4, "default_generation_settings": {"n_ctx": 1024}, "endpoint_metrics": True, "build_info": "b1"}
MODELS = {"data": [{"id": "tiny"}]}


def words(params: Mapping[str, Value], **more: Any) -> tuple[str, ...]:
    return ENGINE.launch(LaunchRequest("dir/tiny.gguf", params, "127.0.0.1", 8123, Path("work"), **more)).argv


def page(content: object) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=content if isinstance(content, str) else json.dumps(content))

    return answer


def test_settings_become_flags() -> None:
    argv = words({"parallel": 8.0, "threads": 1, "kv-unified": True, "cache-prompt": False}, command=("llama-server",))

    assert argv == (
        *("llama-server", "--model", "dir/tiny.gguf", "--alias", "tiny", "--host", "127.0.0.1", "--port", "8123"),
        *("--metrics", "--parallel", "8", "--threads", "1", "--kv-unified", "--no-cache-prompt"),
    )


def test_the_baseline_has_one_slot_whichever_program_runs_it() -> None:
    assert words({}, command=("llama-server",))[-2:] == ("--parallel", "1")


def test_without_llama_server_the_wheels_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert words({})[:3] == (sys.executable, "-m", "engines.llamacpp_server")


def test_a_failed_check_starts_no_debugger() -> None:
    spec = ENGINE.launch(LaunchRequest("m.gguf", {}, "127.0.0.1", 1, Path(), environment={"OMP_NUM_THREADS": "1"}))

    assert spec.environment == {"GGML_NO_BACKTRACE": "1", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"parallel": 32, "batch-size": 32, "ubatch-size": 64}, "ubatch-size 64 is larger"),
        ({"parallel": 64, "batch-size": 32}, "batch-size 32 is smaller than parallel 64"),
        ({"cache-type-v": "q8_0", "flash-attn": "off"}, "needs flash-attn on"),
    ],
)
def test_what_llama_cpp_aborts_on_is_named(params: dict[str, Value], reason: str) -> None:
    found = ENGINE.conflicts(params)

    assert found is not None
    assert reason in found


async def test_the_metrics_page_becomes_a_sample(serve: Serve, http: aiohttp.ClientSession) -> None:
    metrics = ENGINE.metrics(http, await serve({"/metrics": page(PAGE), "/props": page(PROPS)}))

    ((_, sample),) = await metrics.poll()

    assert (sample.running, sample.waiting, sample.max_batch_size) == (4, 7, 4)
    assert (sample.prompt_tokens_total, sample.output_tokens_total, sample.iterations_total) == (400, 640, 90)
    assert (sample.kv_hit_ratio, sample.kv_capacity_tokens) == (0.25, 4096)


async def test_builds_that_tell_no_cached_tokens_still_count_prompts(serve: Serve, http: aiohttp.ClientSession) -> None:
    old = "\n".join(line for line in PAGE.splitlines() if "cached" not in line) + "\n"
    metrics = ENGINE.metrics(http, await serve({"/metrics": page(old), "/props": page(PROPS)}))

    ((_, sample),) = await metrics.poll()

    assert sample.prompt_tokens_total == 300
    assert math.isnan(sample.kv_hit_ratio)


async def test_metrics_that_are_off_are_said_to_be_off(serve: Serve, http: aiohttp.ClientSession) -> None:
    metrics = ENGINE.metrics(http, await serve({"/props": page(PROPS)}))

    with pytest.raises(EngineError, match="answers 404; start llama-server with --metrics"):
        await metrics.poll()


@pytest.mark.parametrize("text", ["<html>", "a{b 1", "\x00"])
async def test_a_page_that_is_no_metrics_page_is_refused(serve: Serve, http: aiohttp.ClientSession, text: str) -> None:
    metrics = ENGINE.metrics(http, await serve({"/metrics": page(text), "/props": page([])}))

    with pytest.raises(EngineError, match="not Prometheus text"):
        await metrics.poll()


async def test_a_running_server_tells_who_it_is(serve: Serve, http: aiohttp.ClientSession) -> None:
    info = await ENGINE.inspect(http, await serve({"/v1/models": page(MODELS), "/props": page(PROPS)}))

    assert (info.version, info.model, info.notes) == ("b1", "tiny", ())
    assert info.effective == {"parallel": 4, "ctx-size": 4096}


async def test_another_kind_of_server_is_told_apart(serve: Serve, http: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineError, match=r"is not a llama\.cpp server"):
        await ENGINE.inspect(http, await serve({"/v1/models": page(MODELS)}))


def test_what_is_in_force_is_read_from_the_log() -> None:
    lines = [
        "0.00.358.468 I cmn          init: llama threadpool init, n_threads = 2",
        "0.00.376.027 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 1024, kv_unified = 'false'",
    ]

    assert ENGINE.effective_from_log(lines) == {"threads": 2, "parallel": 4, "kv-unified": False, "ctx-size": 4096}
