"""LMDeploy: its command line, its metrics, what it says of itself. Pages are written after the contract."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from engines.errors import BadConfiguration, EngineError
from engines.launch.spec import LaunchRequest
from engines.lmdeploy import ENGINE

from .conftest import Serve

MODELS = {"data": [{"id": "m", "owned_by": "lmdeploy"}]}
PAGE = """\
# TYPE lmdeploy:num_requests_running gauge
lmdeploy:num_requests_running{engine="0",model_name="m"} 5
lmdeploy:num_requests_waiting{engine="0",model_name="m"} 2
lmdeploy:gpu_cache_usage_perc{engine="0",model_name="m"} 0.5
lmdeploy:prefix_cache_hit_rate{engine="0",model_name="m"} -1
# TYPE lmdeploy:generation_tokens_total counter
lmdeploy:generation_tokens_total{engine="0",model_name="m"} 900
# TYPE lmdeploy:request_success_total counter
lmdeploy:request_success_total{engine="0",finished_reason="stop"} 4
lmdeploy:request_success_total{engine="0",finished_reason="length"} 3
lmdeploy:backend_config_info{tp="2",max_batch_size="256",cache_max_entry_count="0.75",quant_policy="8",\
enable_prefix_caching="True",session_len="None",model_format="other"} 1
"""


def page(told: object) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=told) if isinstance(told, str) else web.json_response(told)

    return answer


def test_settings_become_flags() -> None:
    spec = ENGINE.launch(
        LaunchRequest("org/model", {"max-batch-size": 64, "enable-prefix-caching": True}, "127.0.0.1", 8123, Path("w"))
    )

    assert spec.argv[:8] == (
        "lmdeploy", "serve", "api_server", "org/model", "--server-name", "127.0.0.1", "--server-port", "8123",
    )  # fmt: skip
    assert spec.argv[8:] == ("--max-batch-size", "64", "--enable-prefix-caching")


def test_metrics_stay_on() -> None:
    with pytest.raises(BadConfiguration, match="argument --disable-metrics"):
        ENGINE.launch(LaunchRequest("m", {}, "127.0.0.1", 8123, Path("w"), arguments=("--disable-metrics",)))


async def test_a_page_becomes_a_sample(serve: Serve, http: aiohttp.ClientSession) -> None:
    ((_, sample),) = await ENGINE.metrics(http, await serve({"/metrics": page(PAGE)})).poll()

    assert (sample.running, sample.waiting, sample.kv_used_ratio) == (5, 2, 0.5)
    assert (sample.output_tokens_total, sample.requests_total) == (900, 7)
    assert math.isnan(sample.kv_hit_ratio)


async def test_settings_in_force_are_read_from_its_labels(serve: Serve, http: aiohttp.ClientSession) -> None:
    info = await ENGINE.inspect(http, await serve({"/v1/models": page(MODELS), "/metrics": page(PAGE)}))

    assert info.model == "m"
    assert info.effective == {
        "tp": 2,
        "max-batch-size": 256,
        "cache-max-entry-count": 0.75,
        "quant-policy": 8,
        "enable-prefix-caching": True,
    }


async def test_another_server_is_told_apart(serve: Serve, http: aiohttp.ClientSession) -> None:
    models = page({"data": [{"id": "m", "owned_by": "vllm"}]})

    with pytest.raises(EngineError, match="is not an LMDeploy server"):
        await ENGINE.inspect(http, await serve({"/v1/models": models}))


def test_settings_of_the_other_backend_are_a_conflict() -> None:
    conflict = ENGINE.conflicts({"backend": "pytorch", "num-tokens-per-iter": 512})

    assert conflict == "num-tokens-per-iter is a setting of the turbomind backend"
