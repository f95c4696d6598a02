"""An OpenAI-compatible server of unknown make."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from engines.errors import BadConfiguration, EngineError
from engines.launch.attach import AttachedServer
from engines.launch.spec import LaunchRequest
from engines.openai import ENGINE

from .conftest import Handler, Serve

VLLM_PAGE = """\
vllm:num_requests_running{engine="0"} 5
vllm:num_requests_running{engine="1"} 4
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

    assert (sample.running, sample.waiting, sample.kv_used_ratio) == (9, 2, 0.5)
    assert (sample.output_tokens_total, sample.kv_hit_ratio) == (150, 0.25)


@pytest.mark.parametrize("paths", [{}, {"/metrics": page("some_other_metric 1\n")}])
async def test_no_known_metrics_give_no_samples(
    serve: Serve, http: aiohttp.ClientSession, paths: dict[str, Handler]
) -> None:
    assert await ENGINE.metrics(http, await serve(paths)).poll() == ()


async def test_a_litellm_proxy_is_asked_at_its_own_path_and_never_at_the_one_that_costs_requests(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    asked: list[str] = []

    async def ready(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"status": "healthy", "litellm_version": "1.109.1"})

    async def costly(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({})

    url = await serve({"/health/readiness": ready, "/health": costly, "/v1/models": page('{"data": [{"id": "one"}]}')})
    server = AttachedServer(url, *ENGINE.attach_paths, ENGINE.health_path)

    await server.wait_ready(http, 5)
    assert await server.check(http) is None
    info = await ENGINE.inspect(http, url)

    assert info.version == "1.109.1"
    assert "LiteLLM" in info.notes[0]
    assert set(asked) == {"/health/readiness"}


async def test_a_proxy_that_is_not_ready_is_not_well(serve: Serve, http: aiohttp.ClientSession) -> None:
    async def unready(_: web.Request) -> web.Response:
        return web.json_response({"status": "unhealthy"}, status=503)

    url = await serve({"/health/readiness": unready, "/v1/models": page('{"data": [{"id": "one"}]}')})

    failure = await AttachedServer(url, *ENGINE.attach_paths, ENGINE.health_path).check(http)

    assert failure is not None
    assert "/health/readiness answers 503" in failure.text


def test_it_cannot_be_started() -> None:
    with pytest.raises(BadConfiguration, match="cannot start a server; give its address"):
        ENGINE.launch(LaunchRequest("m", {}, "127.0.0.1", 1, Path()))
