"""TGI: its command line, its metrics, what it says of itself. Pages are written after the contract."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from engines._prometheus import parse_page
from engines.errors import BadConfiguration, EngineError
from engines.knob import Value
from engines.launch.spec import LaunchRequest
from engines.tgi import ENGINE, TgiReader

from .conftest import Serve

MODELS = {"data": [{"id": "org/model"}]}


def page(told: object) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=told) if isinstance(told, str) else web.json_response(told)

    return answer


def metrics_text(queue_s: float, requests: int) -> str:
    return f"""\
# TYPE tgi_request_success counter
tgi_request_success {requests}
# TYPE tgi_queue_size gauge
tgi_queue_size 3
tgi_batch_current_size 8
tgi_batch_current_max_tokens 4096
tgi_batch_max_total_tokens 16384
# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_bucket{{le="+Inf"}} {requests}
tgi_request_generated_tokens_sum 1280
tgi_request_generated_tokens_count {requests}
# TYPE tgi_request_queue_duration histogram
tgi_request_queue_duration_bucket{{le="+Inf"}} {requests}
tgi_request_queue_duration_sum {queue_s}
tgi_request_queue_duration_count {requests}
"""


def test_settings_become_flags() -> None:
    spec = ENGINE.launch(LaunchRequest("org/model", {"num-shard": 2, "cuda-graphs": "0"}, "127.0.0.1", 8123, Path("w")))

    assert spec.argv[:3] == ("text-generation-launcher", "--model-id", "org/model")
    assert spec.argv[3:7] == ("--hostname", "127.0.0.1", "--port", "8123")
    assert spec.argv[7:] == ("--num-shard", "2", "--cuda-graphs", "0")


def test_the_model_is_not_said_twice() -> None:
    with pytest.raises(BadConfiguration, match="argument --model-id"):
        ENGINE.launch(LaunchRequest("m", {}, "127.0.0.1", 8123, Path("w"), arguments=("--model-id=x",)))


def test_pages_become_samples() -> None:
    reader = TgiReader()

    first = reader.read(parse_page(metrics_text(1.0, 10), "test"))
    second = reader.read(parse_page(metrics_text(2.0, 20), "test"))

    assert (first.running, first.waiting, first.requests_total, first.output_tokens_total) == (8, 3, 10, 1280)
    assert (first.kv_used_ratio, first.kv_capacity_tokens) == (0.25, 16384)
    assert math.isnan(first.queue_ms)
    assert second.queue_ms == pytest.approx(100.0)


async def test_limits_in_force_are_read_back(serve: Serve, http: aiohttp.ClientSession) -> None:
    told = {
        "version": "3.3.7",
        "model_id": "org/model",
        "max_total_tokens": 4096,
        "max_batch_total_tokens": 65536,
        "waiting_served_ratio": 0.3,
        "max_batch_size": None,
    }

    info = await ENGINE.inspect(http, await serve({"/v1/models": page(MODELS), "/info": page(told)}))

    assert (info.version, info.model) == ("3.3.7", "org/model")
    assert info.effective == {
        "max-total-tokens": 4096,
        "max-batch-total-tokens": 65536,
        "waiting-served-ratio": 0.3,
    }


async def test_another_server_is_told_apart(serve: Serve, http: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineError, match="is not a TGI server"):
        await ENGINE.inspect(http, await serve({"/v1/models": page(MODELS)}))


@pytest.mark.parametrize(
    "params",
    [
        {"max-input-tokens": 4096, "max-total-tokens": 4096},
        {"max-input-tokens": 4096, "max-batch-prefill-tokens": 2048},
        {"max-total-tokens": 4096, "max-batch-total-tokens": 2048},
    ],
)
def test_limits_that_do_not_fit_together_are_named(params: dict[str, Value]) -> None:
    assert "must be" in (ENGINE.conflicts(params) or "")
