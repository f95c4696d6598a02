"""An OpenAI-compatible server of unknown make."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from engines.base import LaunchRequest
from engines.errors import BadConfiguration, EngineError
from engines.openai import ENGINE

from .conftest import Handler, Serve

VLLM_PAGE = """\
vllm:num_requests_running{engine="0"} 5
vllm:num_requests_waiting{engine="0"} 2
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:generation_tokens_total{engine="0"} 100
vllm:generation_tokens_total{engine="1"} 50
vllm:prefix_cache_queries_total 200
vllm:prefix_cache_hits_total 50
"""


def page(text: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    return answer


async def test_the_model_is_the_first_of_the_list(serve: Serve, http: aiohttp.ClientSession) -> None:
    url = await serve({"/v1/models": page('{"data": [{"id": "one"}, {"id": "two"}]}')})

    info = await ENGINE.inspect(http, url)

    assert (info.model, info.version, info.notes) == ("one", "", ("the server lists 2 models",))


@pytest.mark.parametrize("body", ["{}", "[]", '{"data": 7}'])
async def test_a_server_without_the_api_is_told_apart(serve: Serve, http: aiohttp.ClientSession, body: str) -> None:
    with pytest.raises(EngineError, match="is it an OpenAI API"):
        await ENGINE.inspect(http, await serve({"/v1/models": page(body)}))


async def test_metrics_of_a_common_server_are_read(serve: Serve, http: aiohttp.ClientSession) -> None:
    ((_, sample),) = await ENGINE.metrics(http, await serve({"/metrics": page(VLLM_PAGE)})).poll()

    assert (sample.running, sample.waiting, sample.kv_used_ratio) == (5, 2, 0.5)
    assert (sample.output_tokens_total, sample.kv_hit_ratio) == (150, 0.25)


@pytest.mark.parametrize("paths", [{}, {"/metrics": page("some_other_metric 1\n")}])
async def test_no_known_metrics_give_no_samples(
    serve: Serve, http: aiohttp.ClientSession, paths: dict[str, Handler]
) -> None:
    assert await ENGINE.metrics(http, await serve(paths)).poll() == ()


def test_it_cannot_be_started() -> None:
    with pytest.raises(BadConfiguration, match="cannot start a server; give its address"):
        ENGINE.launch(LaunchRequest("m", {}, "127.0.0.1", 1, Path()))
