"""The NIM dialect: variables of 1.x, precedence of 2.x, and the two generations' pages."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engines.gpu.hardware import GPUS
from engines.models import Precision
from engines.simulated.faults import Faults
from engines.simulated.model import CapacityPolicy, Simulation
from engines.simulated.nim.environment import Environment
from engines.simulated.nim.routes import Front, OldServer
from engines.simulated.pacing import PacedEngine
from engines.simulated.start import StartError
from engines.simulated.telemetry import GpuTelemetry
from engines.simulated.vllm.command_line import parse_command
from tests.engines.simulated.sim_builders import TINY
from tests.engines.simulated.sim_server import Running, events, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BODY = {"model": "m", "prompt": list(range(40)), "max_tokens": 6, "ignore_eos": True}


@asynccontextmanager
async def running_nim(*, ready: bool = True, tells_request_metrics: bool = False) -> AsyncIterator[Running]:
    """A tiny NIM 1.x on a free loopback port."""
    config, checkpoint = Environment({"NIM_MAX_MODEL_LEN": "512"}).engine_config(TINY)
    engine = PacedEngine(Simulation(config, checkpoint, GPUS["h200"]))
    telemetry = GpuTelemetry(GPUS["h200"], 1, time.monotonic())
    inside = OldServer(engine, ("m",), telemetry, Faults(), tells_request_metrics=tells_request_metrics)
    front = Front("1.15.0", "m", "0" * 64, alive_before_ready=False)
    if ready:
        front.connect(inside.application(), engine)
    async with serving(front.application(), engine) as running:
        yield running


async def test_before_it_is_ready_only_nim_itself_answers() -> None:
    async with running_nim(ready=False) as server:
        statuses = [(await server.get(path))[0] for path in ("/v1/health/ready", "/v1/models", "/v1/version")]

    assert statuses == [503, 502, 200]


async def test_version_and_metadata_tell_a_nim_by_release_and_profile() -> None:
    async with running_nim() as server:
        version = await server.get_json("/v1/version")
        metadata = await server.get_json("/v1/metadata")

    assert version == {"release": "1.15.0", "api": "1.15.0"}
    assert metadata["version"] == "1.15.0"
    assert metadata["selectedModelProfileId"] == "0" * 64


async def test_metrics_have_no_prefix_and_one_label_and_count_every_gap() -> None:
    async with running_nim() as server:
        await server.post("/v1/completions", BODY)
        status, page = await server.get("/v1/metrics")
        elsewhere, _ = await server.get("/metrics")

    samples = {
        sample.name: sample for family in text_string_to_metric_families(page.decode()) for sample in family.samples
    }
    assert (status, elsewhere) == (200, 404)
    assert samples["num_request_max"].value == 512
    assert samples["prompt_tokens_total"].value == 40
    assert samples["generation_tokens_total"].value == 6
    assert samples["time_per_output_token_seconds_count"].value == 5
    assert samples["num_requests_running"].labels == {"model_name": "m"}


async def test_request_statistics_come_with_the_answer_and_with_a_streams_usage() -> None:
    stream = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    async with running_nim(tells_request_metrics=True) as server:
        _, whole = await server.post("/v1/completions", BODY)
        _, streamed = await server.post("/v1/completions", stream)

    for answer in (json.loads(whole), events(streamed)[-2]):
        stats = answer["stats"]
        assert (stats["llm_input_token_length"], stats["llm_output_token_length"]) == (40, 6)
        assert stats["time_in_queue_in_ms"] <= stats["response_tokens"][0]["time_to_first_token_in_ms"]


async def test_without_being_asked_there_are_no_request_statistics() -> None:
    async with running_nim() as server:
        _, whole = await server.post("/v1/completions", BODY)

    assert "stats" not in json.loads(whole)


def test_variables_of_1x_become_settings_and_prefix_caching_is_off_by_default() -> None:
    variables = {
        "NIM_MAX_BATCH_SIZE": "64",
        "NIM_KVCACHE_PERCENT": "0.8",
        "NIM_SCHEDULER_POLICY": "max_utilization",
        "NIM_DISABLE_CUDA_GRAPH": "1",
        "NIM_MODEL_PROFILE": "tensorrt_llm-h100-fp8-tp2-pp1-throughput",
    }

    config, checkpoint = Environment(variables).engine_config(TINY)

    assert (config.max_batch_size, config.free_gpu_memory_fraction, config.tensor_parallel_size) == (64, 0.8, 2)
    assert config.capacity_policy is CapacityPolicy.MAX_UTILIZATION
    assert config.cuda_graphs is None
    assert config.enable_block_reuse is False
    assert checkpoint.weight_precision is Precision.FP8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NIM_KVCACHE_PERCENT", "2"),
        ("NIM_KVCACHE_PERCENT", "much"),
        ("NIM_MAX_BATCH_SIZE", "-1"),
        ("NIM_ENABLE_KV_CACHE_REUSE", "yes please"),
        ("NIM_SCHEDULER_POLICY", "lpm"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(StartError, match=f"{name}='{value}' must be"):
        Environment({name: value}).engine_config(TINY)


def test_flags_of_2x_are_merged_weakest_first() -> None:
    variables = {
        "NIM_MODEL_PROFILE": "vllm-bf16-tp2-pp1",
        "NIM_MAX_MODEL_LEN": "2048",
        "NIM_PASSTHROUGH_ARGS": "--max-num-seqs 8 --max-model-len 1024",
        "NIM_KVCACHE_PERCENT": "0.5",
    }

    words = Environment(variables).passthrough(["--max-num-seqs", "16"])
    command = parse_command(["tiny", *words])

    assert (command.tensor_parallel_size, command.max_model_len, command.max_num_seqs) == (2, 1024, 16)
    assert command.gpu_memory_utilization == 0.92


def test_the_model_is_named_by_a_variable_or_missing() -> None:
    assert Environment({"NIM_MODEL_PATH": "hf://org/model"}).model(None) == "org/model"
    with pytest.raises(StartError, match="no compatible profile"):
        Environment({}).model(None)
