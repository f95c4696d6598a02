"""SGLang: its command line, its metrics, what it says of itself. Pages are written after the contract."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from engines._prometheus import parse_page
from engines._sglang_metrics import SglangReader
from engines.errors import BadConfiguration, EngineError
from engines.knob import Value
from engines.launch.container import Container
from engines.launch.spec import LaunchRequest
from engines.sglang import ENGINE, QUIET_HEALTH

from .conftest import Serve

MODELS = {"data": [{"id": "m", "owned_by": "sglang", "max_model_len": 4096}]}


def request(params: Mapping[str, Value], *arguments: str, container: Container | None = None) -> LaunchRequest:
    return LaunchRequest("org/model", params, "127.0.0.1", 8123, Path("w"), arguments=arguments, container=container)


def page(told: object) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=told) if isinstance(told, str) else web.json_response(told)

    return answer


def test_settings_become_flags_and_metrics_are_switched_on() -> None:
    spec = ENGINE.launch(
        request({"mem-fraction-static": 0.85, "enable-mixed-chunk": True, "disable-radix-cache": False})
    )

    assert spec.argv[1:3] == ("-m", "sglang.launch_server")
    assert spec.argv[3:10] == ("--model-path", "org/model", "--host", "127.0.0.1", "--port", "8123", "--enable-metrics")
    assert spec.argv[10:] == ("--mem-fraction-static", "0.85", "--enable-mixed-chunk")
    assert spec.environment == QUIET_HEALTH


def test_in_a_container_its_own_python_is_used() -> None:
    assert ENGINE.launch(request({}, container=Container("sglang:1"))).argv[0] == "python3"


@pytest.mark.parametrize(
    ("argument", "params"),
    [("--enable-metrics", {}), ("--tp", {"tp-size": 2}), ("--tensor-parallel-size", {"tp-size": 2})],
)
def test_nothing_is_said_twice(argument: str, params: dict[str, Value]) -> None:
    with pytest.raises(BadConfiguration, match=f"argument {argument}"):
        ENGINE.launch(request(params, argument))


def test_ranks_of_one_replica_count_once_and_replicas_are_added_up() -> None:
    text = "".join(
        f'sglang:{name}{{dp_rank="{dp}",tp_rank="{tp}"}} {value}\n'
        for name, value in (
            ("num_running_reqs", 4),
            ("num_queue_reqs", 1),
            ("max_total_num_tokens", 1000),
            ("num_retracted_requests_total", 3),
        )
        for dp in (0, 1)
        for tp in (0, 1)
    )

    sample = SglangReader().read(parse_page(text, "test"))

    assert (sample.running, sample.waiting, sample.kv_capacity_tokens) == (8, 2, 2000)
    assert sample.preemptions_total == 6


def test_means_are_of_what_happened_between_two_pages() -> None:
    reader = SglangReader()

    def text(cached: int, prompts: int, queue_s: float, requests: int) -> str:
        return (
            f"sglang:num_running_reqs 1\nsglang:token_usage 0.5\nsglang:cache_hit_rate 0.9\n"
            f"sglang:cached_tokens_total {cached}\nsglang:prompt_tokens_total {prompts}\n"
            f"sglang:queue_time_seconds_sum {queue_s}\nsglang:queue_time_seconds_count {requests}\n"
        )

    first = reader.read(parse_page(text(0, 100, 0.0, 10), "test"))
    second = reader.read(parse_page(text(30, 200, 1.0, 20), "test"))

    assert (first.kv_hit_ratio, first.kv_used_ratio) == (0.9, 0.5)
    assert math.isnan(first.queue_ms)
    assert second.kv_hit_ratio == pytest.approx(0.3)
    assert second.queue_ms == pytest.approx(100.0)


async def test_metrics_that_are_off_are_said(serve: Serve, http: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineError, match="answers 404; start SGLang with --enable-metrics"):
        await ENGINE.metrics(http, await serve({})).poll()


@pytest.mark.parametrize("path", ["/get_server_info", "/server_info"])
async def test_arguments_in_force_are_read_back_without_the_keys(
    serve: Serve, http: aiohttp.ClientSession, path: str
) -> None:
    told = {
        "version": "0.5.23",
        "mem_fraction_static": 0.87,
        "max_running_requests": 512,
        "schedule_policy": "lpm",
        "disable_radix_cache": False,
        "tp_size": "two",
        "page_size": None,
        "api_key": "hunter2",
    }

    info = await ENGINE.inspect(http, await serve({"/v1/models": page(MODELS), path: page(told)}))

    assert (info.version, info.model) == ("0.5.23", "m")
    assert info.effective == {
        "mem-fraction-static": 0.87,
        "max-running-requests": 512,
        "schedule-policy": "lpm",
        "disable-radix-cache": False,
    }


async def test_another_server_is_told_apart(serve: Serve, http: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineError, match="is not an SGLang server"):
        await ENGINE.inspect(http, await serve({"/v1/models": page(MODELS)}))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"disable-radix-cache": True, "schedule-policy": "lpm"}, "no effect without the radix cache"),
        ({"disable-radix-cache": True, "enable-hierarchical-cache": True}, "needs the radix cache"),
        ({"enable-mixed-chunk": True, "chunked-prefill-size": -1}, "no effect with chunked-prefill-size -1"),
    ],
)
def test_conflicts_are_named(params: dict[str, Value], text: str) -> None:
    assert text in (ENGINE.conflicts(params) or "")
