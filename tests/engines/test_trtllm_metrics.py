"""The three ways in which builds deliver their metrics, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engines._prometheus import parse_page
from engines._trtllm_metrics import Regime, TrtllmMetrics, sample_of_page
from engines.errors import EngineError, Unreachable
from engines.launch.ports import free_port
from engines.trtllm import ENGINE

from .conftest import Handler, Serve

SLOW_S = 1.6

PAGE = """\
# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{pid="1"} 12
trtllm_num_requests_running{pid="2"} 0
# TYPE trtllm_num_requests_waiting gauge
trtllm_num_requests_waiting 3
# TYPE trtllm_kv_cache_utilization gauge
trtllm_kv_cache_utilization 0.25
# TYPE trtllm_iteration_latency_seconds gauge
trtllm_iteration_latency_seconds 0.02
# TYPE trtllm_request_success_total counter
trtllm_request_success_total{finished_reason="stop"} 4
trtllm_request_success_total{finished_reason="length"} 6
# TYPE trtllm_prompt_tokens_total counter
trtllm_prompt_tokens_total 800
# TYPE trtllm_generation_tokens_total counter
trtllm_generation_tokens_total 900
"""

CONFIG_PAGE = """\
trtllm_parallel_config_info{tensor_parallel_size="2",pipeline_parallel_size="1",expert_parallel_size="None"} 1
trtllm_kv_cache_config_info{page_size="32",enable_block_reuse="True",free_gpu_memory_fraction="0.85",cache_dtype="auto"} 1
trtllm_model_config_info{model="m",max_model_len="8192"} 1
"""


def record(iteration: int, **more: Any) -> dict[str, Any]:
    stats = {"numScheduledRequests": 6, "numContextRequests": 1, "numGenRequests": 5, "numCtxTokens": 100}
    return {
        "iter": iteration,
        "timestamp": f"11-21-2026 00:00:{iteration * 0.02:09.6f}",
        "iterLatencyMS": 40.0,
        "numActiveRequests": 8,
        "numQueuedRequests": 2,
        "numCompletedRequests": 1,
        "numNewActiveRequests": 2,
        "newActiveRequestsQueueLatencyMS": 10.0,
        "maxNumActiveRequests": 64,
        "kvCacheStats": {
            "maxNumBlocks": 1000,
            "usedNumBlocks": 250,
            "tokensPerBlock": 32,
            "reusedBlocks": iteration,
            "missedBlocks": 3 * iteration,
        },
        "inflightBatchingStats": stats,
        **more,
    }


class Records:
    """`/metrics` that forgets what was read."""

    def __init__(self, *pages: list[Any], delay_s: float = 0.0) -> None:
        self.pages = list(pages)
        self.delay_s = delay_s
        self.reads = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.reads += 1
        await asyncio.sleep(self.delay_s)
        return web.json_response(self.pages.pop(0) if self.pages else [])


def page(text: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    return answer


async def test_without_prometheus_the_records_come_directly(serve: Serve, http: aiohttp.ClientSession) -> None:
    records = Records([record(1)], [record(2)])
    metrics = TrtllmMetrics(http, await serve({"/metrics": records.answer}))

    first, second = await metrics.poll(), await metrics.poll()

    assert metrics.regime is Regime.DIRECT
    assert (len(first), len(second)) == (1, 1)


async def test_a_quick_answer_with_nothing_in_it_does_not_tell_the_way_yet(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    records = Records([], [record(1)], [record(2)])
    url = await serve({"/metrics": records.answer, "/prometheus/metrics": page(PAGE)})
    metrics = TrtllmMetrics(http, url)

    before_the_first_request = await metrics.poll()
    undecided = metrics.regime
    records.delay_s = SLOW_S
    await metrics.poll()

    assert (list(before_the_first_request), undecided) == ([], None)
    assert metrics.regime is Regime.RACING


async def test_a_quick_answer_beside_prometheus_is_the_buffered_way(serve: Serve, http: aiohttp.ClientSession) -> None:
    records = Records([record(1)], [record(2)])
    url = await serve({"/metrics": records.answer, "/prometheus/metrics": page(PAGE)})
    metrics = TrtllmMetrics(http, url)

    await metrics.poll()
    ((_, sample),) = await metrics.poll()

    assert metrics.regime is Regime.TEE
    assert sample.prompt_tokens_total == 800
    assert sample.iterations_total == 2


async def test_slow_answers_beside_prometheus_mean_a_race_and_leave_the_records_alone(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    records = Records(delay_s=SLOW_S)
    metrics = TrtllmMetrics(http, await serve({"/metrics": records.answer, "/prometheus/metrics": page(PAGE)}))

    await metrics.poll()
    ((_, sample),) = await metrics.poll()

    assert metrics.regime is Regime.RACING
    assert records.reads == 2
    assert (sample.running, sample.waiting, sample.kv_used_ratio) == (12, 3, 0.25)
    assert (sample.requests_total, sample.output_tokens_total, sample.iteration_ms) == (10, 900, 20)


async def test_an_iteration_becomes_a_sample(serve: Serve, http: aiohttp.ClientSession) -> None:
    metrics = TrtllmMetrics(http, await serve({"/metrics": Records([record(1)], [record(2), record(3)]).answer}))
    await metrics.poll()

    ((_, sample),) = await metrics.poll()

    assert (sample.running, sample.waiting, sample.scheduled) == (6, 4, 6)
    assert (sample.kv_used_ratio, sample.kv_capacity_tokens, sample.kv_hit_ratio) == (0.25, 32_000, 0.25)
    assert (sample.context_tokens, sample.queue_ms, sample.max_batch_size) == (100, 5, 64)
    assert sample.iteration_ms == pytest.approx(20.0, abs=0.01)
    assert (sample.requests_total, sample.iterations_total, sample.lost_records_total) == (3, 3, 0)
    assert sample.output_tokens_total == 3 * (5 + 1)


async def test_many_iterations_become_at_most_ten_samples_a_second_each_at_its_time(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    metrics = TrtllmMetrics(http, await serve({"/metrics": Records([record(number) for number in range(50)]).answer}))

    samples = await metrics.poll()

    times_s = [when_ns / 1e9 for when_ns, _ in samples]
    gaps = [after - before for before, after in pairwise(times_s)]
    assert 8 <= len(samples) <= 10
    assert all(0.099 < gap < 0.13 for gap in gaps)
    assert samples[-1][1].iterations_total == 50


async def test_recorded_metrics_are_read(serve: Serve, http: aiohttp.ClientSession, data: Path) -> None:
    recorded = json.loads((data / "trtllm/metrics.json").read_text())
    prometheus = (data / "trtllm/prometheus.prom").read_text()
    url = await serve({"/metrics": Records(recorded).answer, "/prometheus/metrics": page(prometheus)})

    samples = await TrtllmMetrics(http, url).poll()

    assert samples[-1][1].iterations_total == len(recorded)
    assert samples[-1][1].kv_capacity_tokens == 32_000
    assert samples[-1][1].lost_records_total == 0


def test_names_without_the_prefix_are_read_too() -> None:
    sample = sample_of_page(parse_page(PAGE.replace("trtllm_", ""), "page"))

    assert (sample.running, sample.requests_total) == (12, 10)


def test_values_that_are_no_measurement_are_dropped() -> None:
    text = "trtllm_num_requests_running NaN\ntrtllm_num_requests_waiting +Inf\ntrtllm_kv_cache_utilization -0.5\n"

    sample = sample_of_page(parse_page(text, "page"))

    assert all(math.isnan(value) for value in (sample.running, sample.waiting, sample.kv_used_ratio))


@pytest.mark.parametrize("body", ["null", "{}", '"text"', "not json", "[" * 100_000])
async def test_an_answer_that_is_no_list_is_refused_in_one_line(
    serve: Serve, http: aiohttp.ClientSession, body: str
) -> None:
    metrics = TrtllmMetrics(http, await serve({"/metrics": page(body)}))

    with pytest.raises(EngineError, match="/metrics answers") as raised:
        await metrics.poll()

    assert "\n" not in str(raised.value)


async def test_a_body_without_end_is_not_read_further(serve: Serve, http: aiohttp.ClientSession) -> None:
    metrics = TrtllmMetrics(http, await serve({"/metrics": page(" " * 10_000_001)}))

    with pytest.raises(EngineError, match="more than 10000000 bytes"):
        await metrics.poll()


async def test_not_a_number_in_a_record_loses_that_value_only(serve: Serve, http: aiohttp.ClientSession) -> None:
    body = json.dumps([record(1, numQueuedRequests=math.nan, iterLatencyMS=1e300)])
    metrics = TrtllmMetrics(http, await serve({"/metrics": page(body)}))

    ((_, sample),) = await metrics.poll()

    assert math.isnan(sample.waiting)
    assert math.isnan(sample.iteration_ms)
    assert sample.running == 6


async def test_nobody_there_is_unreachable(http: aiohttp.ClientSession) -> None:
    metrics = TrtllmMetrics(http, f"http://127.0.0.1:{free_port()}")

    with pytest.raises(Unreachable, match="cannot be reached"):
        await metrics.poll()


async def test_a_running_server_tells_who_it_is_and_what_is_in_force(
    serve: Serve, http: aiohttp.ClientSession, data: Path
) -> None:
    url = await serve(
        {
            "/version": page('{"version": "1.3.0rc20"}'),
            "/v1/models": page((data / "trtllm/models.json").read_text()),
            "/server_info": page('{"max_batch_size": 256, "tokens_per_block": 64, "startup_metrics": null}'),
            "/prometheus/metrics": page(CONFIG_PAGE),
        }
    )

    info = await ENGINE.inspect(http, url)

    assert (info.version, info.model) == ("1.3.0rc20", "tiny-llama")
    assert info.effective == {
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 1,
        "kv_cache_config.tokens_per_block": 64,
        "kv_cache_config.free_gpu_memory_fraction": 0.85,
        "kv_cache_config.enable_block_reuse": True,
        "kv_cache_config.dtype": "auto",
        "max_seq_len": 8192,
        "max_batch_size": 256,
    }


async def test_numbers_that_no_session_can_hold_are_no_settings(serve: Serve, http: aiohttp.ClientSession) -> None:
    huge = "9" * 30
    url = await serve(
        {
            "/version": page('{"version": "1.3.0rc20"}'),
            "/server_info": page(f'{{"max_batch_size": {huge}, "tokens_per_block": 64, "startup_s": NaN}}'),
            "/prometheus/metrics": page(f'model_config_info{{max_model_len="{huge}"}} 1\n'),
        }
    )

    info = await ENGINE.inspect(http, url)

    assert info.effective == {"kv_cache_config.tokens_per_block": 64}


async def test_an_old_server_tells_less_and_that_is_noted(
    serve: Serve, http: aiohttp.ClientSession, data: Path
) -> None:
    url = await serve({"/version": page((data / "trtllm/version.json").read_text())})

    info = await ENGINE.inspect(http, url)

    assert info.version == "0.0.0+unknown"
    assert info.effective == {}
    assert "return_perf_metrics" in info.notes[0]


async def test_another_kind_of_server_is_told_apart(serve: Serve, http: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineError, match="is not a TensorRT-LLM server"):
        await ENGINE.inspect(http, await serve({}))
