"""``/prometheus/metrics``: presence, names and labels by version; the numbers add up."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.engines.simulated.sim_server import Running, captured, running_server

STATS = {"return_perf_metrics": True, "enable_iter_perf_stats": True}


async def page(server: Running) -> str:
    """Return the page as text."""
    status, body = await server.get("/prometheus/metrics")
    assert status == 200
    return body.decode()


def samples(text: str) -> dict[str, float]:
    """Return every unlabelled-looking sample of a page: name to value, buckets left out."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }


def skeleton(text: str) -> list[str]:
    """Return a page's lines without their values."""
    return [line if line.startswith("#") else line.rsplit(" ", 1)[0] for line in text.strip().splitlines()]


@pytest.mark.parametrize(("version", "settings"), [("1.3.0rc20", {}), ("1.1.0", {}), ("1.0.0", {})])
async def test_the_route_is_missing_unless_switched_on(version: str, settings: dict[str, Any]) -> None:
    async with running_server(version, settings) as server:
        assert await server.get("/prometheus/metrics") == captured("prometheus_disabled.json")


async def test_nothing_is_exported_before_the_first_request() -> None:
    async with running_server("1.3.0rc20", STATS) as server:
        assert await page(server) == ""


async def test_a_1_1_page_has_the_captured_series_line_by_line() -> None:
    async with running_server("1.1.0", {"return_perf_metrics": True}) as server:
        await server.complete()
        text = await page(server)

    wanted = skeleton(captured("prometheus.prom")[1].decode())
    assert skeleton(text) == [line for line in wanted if 'finished_reason="stop"' not in line]


async def test_1_3_prefixes_names_and_labels_the_model() -> None:
    async with running_server("1.3.0rc20", STATS) as server:
        await server.complete()
        text = await page(server)

    names = {family.name for family in text_string_to_metric_families(text)}
    assert all(name.startswith("trtllm_") for name in names)
    assert {"trtllm_kv_cache_config_info", "trtllm_request_prefill_time_seconds"} <= names
    assert 'model_name="tiny-llama"' in text
    assert "undefined" not in text


async def test_requests_and_tokens_are_counted_when_they_finish() -> None:
    async with running_server("1.3.0rc20", STATS) as server:
        for _ in range(3):
            await server.complete(tokens=5, prompt_tokens=40)
        values = samples(await page(server))

    assert values["trtllm_request_success_total"] == 3
    assert values["trtllm_prompt_tokens_total"] == 120
    assert values["trtllm_generation_tokens_total"] == 15
    assert values["trtllm_e2e_request_latency_seconds_count"] == 3
    assert values["trtllm_num_requests_completed_total"] == 3
    assert values["trtllm_e2e_request_latency_seconds_sum"] == pytest.approx(
        values["trtllm_request_queue_time_seconds_sum"] + values["trtllm_request_inference_time_seconds_sum"]
    )


async def test_buckets_are_cumulative() -> None:
    async with running_server("1.3.0rc20", STATS) as server:
        for _ in range(4):
            await server.complete()
        text = await page(server)

    counts = [float(count) for count in re.findall(r"time_to_first_token_seconds_bucket\{.*\} (\S+)", text)]
    assert counts == sorted(counts)
    assert counts[-1] == 4
