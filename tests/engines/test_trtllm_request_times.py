"""Queue, prefill and decode times of TensorRT-LLM, and iterations told by its log only."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines._prometheus import parse_page
from engines._trtllm_iter_log import record_of_line
from engines._trtllm_metrics import Regime, TrtllmMetrics
from engines._trtllm_records import parse_record
from engines._trtllm_request_times import page_split, split_of_records
from engines.errors import EngineError

from .conftest import Serve
from .test_trtllm_metrics import PAGE, page

NEWEST_LINE = (
    "[08/04/2026-19:08:13] [TRT-LLM] [I] [_torch][RANK 0] iter = 42, global_rank = 0, rank = 0,"
    " num_scheduled_requests = 24, kv_cache_util = 0.125, currank_total_requests = 1/8, host_step_time = 7.5ms,"
    " prev_device_step_time = 6.25ms, timestamp = 2026-08-04 19:08:13, states = {'num_ctx_requests': 4,"
    " 'num_ctx_tokens': 512, 'num_generation_tokens': 20, 'cached_kv_tokens': 63821}"
)
OLDER_LINE = (
    "[TRT-LLM] [I] iter = 42, global_rank = 0, rank = 0, currank_total_requests = 24/24, host_step_time = 7.5ms,"
    " prev_device_step_time = N/Ams, timestamp = 2025-12-01 10:00:00, num_scheduled_requests: 24,"
    " states = {'num_ctx_requests': 4, 'num_ctx_tokens': 512, 'num_generation_tokens': 20}"
)


def histogram(name: str, total_s: float, count: int) -> str:
    return f"# TYPE {name} histogram\n{name}_sum {total_s}\n{name}_count {count}\n"


def test_1_3_tells_all_three_parts_of_a_requests_time() -> None:
    def text(requests: int) -> str:
        return (
            histogram("trtllm_e2e_request_latency_seconds", 1.0 * requests, requests)
            + histogram("trtllm_request_queue_time_seconds", 0.1 * requests, 1)  # zeros are not counted
            + histogram("trtllm_request_prefill_time_seconds", 0.2 * requests, requests)
            + histogram("trtllm_request_decode_time_seconds", 0.7 * requests, requests)
        )

    split = page_split()
    split.update(parse_page(text(10), "page"))
    told = split.update(parse_page(text(20), "page"))

    assert (told.queue_ms, told.prefill_ms, told.decode_ms) == pytest.approx((100, 200, 700))


def test_before_1_3_prefill_and_decode_are_what_remains_of_ttft_and_latency() -> None:
    def text(requests: int) -> str:
        return (
            histogram("e2e_request_latency_seconds", 1.0 * requests, requests)
            + histogram("time_to_first_token_seconds", 0.3 * requests, requests)
            + histogram("request_queue_time_seconds", 0.1 * requests, requests)
        )

    split = page_split()
    split.update(parse_page(text(10), "page"))
    told = split.update(parse_page(text(14), "page"))

    assert (told.queue_ms, told.prefill_ms, told.decode_ms) == pytest.approx((100, 200, 700))


def test_recorded_request_records_tell_the_parts(data: Path) -> None:
    body = (data / "trtllm/http/perf_metrics.json").read_text().partition("\n\n")[2]

    told = split_of_records(json.loads(body))

    assert 0 < told.queue_ms < 50 < told.prefill_ms < 100 < told.decode_ms < 200


@pytest.mark.parametrize(
    "record",
    [None, [], {}, {"perf_metrics": None}, {"perf_metrics": {"timing_metrics": {"arrival_time": "x"}}}],
)
def test_records_that_are_none_are_left_out(record: Any) -> None:
    assert math.isnan(split_of_records([record]).queue_ms)


def test_times_that_run_backwards_are_left_out() -> None:
    timing = {"arrival_time": 5.0, "first_scheduled_time": 4.0, "first_token_time": 6.0, "last_token_time": 7.0}

    told = split_of_records([{"perf_metrics": {"timing_metrics": timing}}])

    assert math.isnan(told.queue_ms)
    assert told.prefill_ms == pytest.approx(2000)


async def test_request_records_are_read_where_the_page_has_no_such_times(
    serve: Serve, http: aiohttp.ClientSession, data: Path
) -> None:
    records = (data / "trtllm/http/perf_metrics.json").read_text().partition("\n\n")[2]
    one = json.dumps([{"iter": 1, "numActiveRequests": 1}])
    url = await serve({"/metrics": page(one), "/prometheus/metrics": page(PAGE), "/perf_metrics": page(records)})

    ((_, sample),) = await TrtllmMetrics(http, url).poll()

    assert 50 < sample.prefill_ms < 200


@pytest.mark.parametrize("line", [NEWEST_LINE, OLDER_LINE])
def test_a_line_of_the_iteration_log_is_a_record_in_every_release(line: str) -> None:
    told = parse_record(record_of_line(line))

    assert told is not None
    assert (told.iteration, told.scheduled, told.context_requests, told.generation_requests) == (42, 24, 4, 20)
    assert (told.context_tokens, told.host_step_ms) == (512, 7.5)
    assert math.isnan(told.queued)


def test_the_newest_lines_tell_the_share_of_the_kv_cache_and_the_gpus_time() -> None:
    told = parse_record(record_of_line(NEWEST_LINE))

    assert told is not None
    assert (told.kv_used_blocks / told.kv_max_blocks, told.gpu_step_ms) == (0.125, 6.25)


@pytest.mark.parametrize("line", ["", "iter = 3", "Loading weights", NEWEST_LINE.replace("rank = 0", "rank = 1")])
def test_other_lines_and_other_ranks_are_none(line: str) -> None:
    assert record_of_line(line) is None


@given(st.text())
def test_any_line_is_read_or_left(text: str) -> None:
    assert record_of_line(text) is None or "iter = " in text


async def test_where_readers_race_the_log_tells_the_iterations(serve: Serve, http: aiohttp.ClientSession) -> None:
    text = "kv_cache_utilization 0.25\n" + histogram("e2e_request_latency_seconds", 10, 10)
    metrics = TrtllmMetrics(http, await serve({"/prometheus/metrics": page(text)}))
    metrics.regime = Regime.RACING

    without_log = await metrics.poll()
    took = [metrics.line(OLDER_LINE), metrics.line(OLDER_LINE.replace("iter = 42", "iter = 43")), metrics.line("hello")]
    with_log = await metrics.poll()

    assert math.isnan(without_log[-1][1].running)
    assert took == [True, True, False]
    sample = with_log[-1][1]
    assert (sample.running, sample.generation_requests, sample.kv_used_ratio) == (24, 20, 0.25)
    assert (sample.iterations_total, sample.lost_records_total) == (2, 0)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("<html><body>502 Bad Gateway</body></html>", "not Prometheus text"),
        ("trtllm_num_requests_running{a=", "not Prometheus text"),
        ("vllm:num_requests_running 3\n", "none of TensorRT-LLM's metrics"),
        ("renamed_requests_running 3\n", "none of TensorRT-LLM's metrics"),
        ("x" * 10_000_001, "more than 10000000 bytes"),
    ],
)
async def test_a_page_of_something_else_is_refused_in_one_line(
    serve: Serve, http: aiohttp.ClientSession, body: str, told: str
) -> None:
    metrics = TrtllmMetrics(http, await serve({"/prometheus/metrics": page(body)}))
    metrics.regime = Regime.RACING

    with pytest.raises(EngineError, match=told) as raised:
        await metrics.poll()

    assert "\n" not in str(raised.value)


async def test_a_page_of_ten_megabytes_is_read(serve: Serve, http: aiohttp.ClientSession) -> None:
    filler = "\n".join(f'other{{label="{"x" * 200}"}} {number}' for number in range(40_000))
    metrics = TrtllmMetrics(http, await serve({"/prometheus/metrics": page(f"{PAGE}{filler}\n")}))
    metrics.regime = Regime.RACING

    ((_, sample),) = await metrics.poll()

    assert sample.running == 12
