"""The vLLM dialect against what vLLM 0.24.0 really answered and printed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engines.gpu.hardware import GPUS
from engines.models import Checkpoint, ModelShape
from engines.simulated.faults import Faults
from engines.simulated.vllm.command_line import parse_command
from engines.simulated.vllm.engine_settings import RefusedError, kv_budget_tokens, settle
from tests.engines.simulated.sim_server import events, shape
from tests.engines.simulated.sim_vllm import running_vllm

DATA = Path(__file__).parents[2] / "data"
CAPTURED: dict[str, Any] = json.loads((DATA / "simulated" / "vllm_http.json").read_text(encoding="utf-8"))
MEASURED_MODEL = Checkpoint(ModelShape("llama-8b-32k-vocabulary", 32, 4096, 14336, 32, 8, 128, 32000, 32768))
ROLE_AND_FIRST = 2

BODY = {"model": "m", "prompt": list(range(40)), "max_tokens": 12, "ignore_eos": True}


def body_of(name: str) -> Any:
    return json.loads(CAPTURED[name]["body"])


def chunks_of(name: str) -> list[Any]:
    return events(CAPTURED[name]["body"].encode())


async def test_a_whole_completion_has_the_captured_shape() -> None:
    async with running_vllm() as server:
        status, answer = await server.post("/v1/completions", BODY)

    assert status == 200
    assert shape(json.loads(answer)) == shape(body_of("completions"))
    assert json.loads(answer)["usage"] == body_of("completions")["usage"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("completions_stream", {"include_usage": True}),
        ("completions_stream_continuous", {"include_usage": True, "continuous_usage_stats": True}),
    ],
)
async def test_a_stream_has_the_captured_chunks(name: str, options: dict[str, bool]) -> None:
    async with running_vllm() as server:
        status, answer = await server.post("/v1/completions", {**BODY, "stream": True, "stream_options": options})

    assert status == 200
    assert [shape(chunk) for chunk in events(answer)] == [shape(chunk) for chunk in chunks_of(name)]
    assert events(answer)[-2]["usage"] == chunks_of(name)[-2]["usage"]


async def test_a_stream_carries_no_usage_unless_it_is_asked_for() -> None:
    async with running_vllm() as server:
        _, answer = await server.post("/v1/completions", {**BODY, "stream": True})

    assert all("usage" not in chunk for chunk in events(answer)[:-1])


async def test_a_chat_stream_begins_with_the_role_and_has_the_captured_chunks() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 12, "ignore_eos": True}
    async with running_vllm() as server:
        _, answer = await server.post(
            "/v1/chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}}
        )

    assert [shape(chunk) for chunk in events(answer)] == [shape(chunk) for chunk in chunks_of("chat_stream")]


async def test_the_model_card_has_the_captured_shape_and_the_length_in_force() -> None:
    async with running_vllm() as server:
        models = await server.get_json("/v1/models")

    assert shape(models) == shape(body_of("models"))
    assert models["data"][0]["max_model_len"] == 512


async def test_another_model_is_not_found() -> None:
    async with running_vllm() as server:
        status, answer = await server.post("/v1/completions", {**BODY, "model": "nope"})

    assert (status, json.loads(answer)) == (404, body_of("error_bad_model"))


async def test_a_request_beyond_the_context_is_refused_in_the_captured_words() -> None:
    async with running_vllm() as server:
        status, answer = await server.post("/v1/completions", {**BODY, "prompt": list(range(600))})

    wanted = body_of("error_too_long")["error"]
    for captured, here in (("32768", "512"), ("40012", "612"), ("40000", "600")):
        wanted["message"] = wanted["message"].replace(captured, here)
    assert (status, json.loads(answer)["error"]) == (400, wanted)


async def test_a_completion_without_prompt_is_refused() -> None:
    async with running_vllm() as server:
        status, answer = await server.post("/v1/completions", {"model": "m"})

    error = json.loads(answer)["error"]
    assert (status, error["type"], error["param"]) == (400, "Bad Request", "prompt")
    assert "Either prompt or prompt_embeds must be provided" in error["message"]


async def test_an_unknown_path_is_not_found_as_captured() -> None:
    async with running_vllm() as server:
        status, answer = await server.get("/nope")

    assert (status, json.loads(answer)) == (404, body_of("error_404"))


async def test_unknown_fields_are_let_pass() -> None:
    async with running_vllm() as server:
        status, _ = await server.post("/v1/completions", {**BODY, "no_such_field": 1})

    assert status == 200


def series(page: str) -> dict[str, set[str]]:
    """Names on a page with the names of their labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def test_the_metrics_page_has_only_captured_names_with_their_labels() -> None:
    captured = series((DATA / "vllm" / "metrics.prom").read_text(encoding="utf-8"))
    async with running_vllm() as server:
        await server.post("/v1/completions", BODY)
        _, page = await server.get("/metrics")

    ours = {name: labels for name, labels in series(page.decode()).items() if name.startswith("vllm:")}
    assert set(ours) <= set(captured)
    info = "vllm:cache_config_info"
    assert {name: labels for name, labels in ours.items() if name != info and labels != captured[name]} == {}
    assert ours[info] <= captured[info]


def value(page: bytes, name: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == name
    )


async def test_counters_and_histograms_count_tokens_and_requests() -> None:
    async with running_vllm() as server:
        await server.post("/v1/completions", BODY)
        _, page = await server.get("/metrics")

    assert value(page, "vllm:prompt_tokens_total") == 40
    assert value(page, "vllm:generation_tokens_total") == 12
    assert value(page, "vllm:request_success_total") == 1
    assert value(page, "vllm:time_to_first_token_seconds_count") == 1
    assert value(page, "vllm:inter_token_latency_seconds_count") == 11


async def test_gauges_are_live_while_a_request_runs() -> None:
    async with running_vllm() as server:
        client = server.client
        async with client.post("/v1/completions", json={**BODY, "max_tokens": 400, "stream": True}) as response:
            await response.content.readany()
            _, page = await server.get("/metrics")

    assert value(page, "vllm:num_requests_running") == 1
    assert value(page, "vllm:kv_cache_usage_perc") > 0


async def test_a_shared_prefix_counts_as_hits() -> None:
    async with running_vllm() as server:
        for _ in range(2):
            await server.post("/v1/completions", BODY)
        _, page = await server.get("/metrics")

    assert value(page, "vllm:prefix_cache_queries_total") == 80
    assert value(page, "vllm:prefix_cache_hits_total") == 32


async def test_a_stream_is_cut_by_the_fault() -> None:
    async with running_vllm(faults=Faults(stream_cut_tokens=3)) as server:
        with pytest.raises(aiohttp.ClientError):
            await server.post("/v1/completions", {**BODY, "stream": True})


async def test_the_engine_answers_nothing_once_it_is_frozen_and_health_stays_well() -> None:
    async with running_vllm() as server:
        server.engine.freeze()
        health, _ = await server.get("/health")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.post("/v1/completions", BODY), 0.3)

    assert health == 200


def refused(*arguments: str) -> RefusedError:
    command = parse_command(["serve", "tiny", *arguments])
    with pytest.raises(RefusedError) as raised:
        kv_budget_tokens(command, settle(command, MEASURED_MODEL, GPUS["h200"], 1), GPUS["h200"])
    return raised.value


@pytest.mark.parametrize(
    ("capture", "arguments"),
    [
        ("fail_kv_too_small", ("--gpu-memory-utilization", "0.1")),
        ("fail_max_len_too_long", ("--max-model-len", "10000000")),
        ("fail_tp_too_big", ("--tensor-parallel-size", "4")),
    ],
)
def test_a_start_fails_with_the_captured_text(capture: str, arguments: tuple[str, ...]) -> None:
    log = (DATA / "vllm" / "failures" / f"{capture}.log").read_text(encoding="utf-8")

    lines = [line.partition(" [type=")[0] for line in str(refused(*arguments)).splitlines()]

    telling = [line for line in lines if "errors.pydantic.dev" not in line]
    assert [line for line in telling if line not in log] == []


def test_an_unknown_flag_is_argparse_error_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parse_command(["serve", "tiny", "--no-such-flag"])

    log = (DATA / "vllm" / "failures" / "fail_bad_flag.log").read_text(encoding="utf-8")
    last = capsys.readouterr().err.splitlines()[-1]
    assert raised.value.code == 2
    assert last == log.splitlines()[-1]


def test_the_kv_cache_is_as_large_as_the_measured_one() -> None:
    command = parse_command(["serve", "tiny"])

    tokens, _ = kv_budget_tokens(command, settle(command, MEASURED_MODEL, GPUS["h200"], 1), GPUS["h200"])

    assert tokens == pytest.approx(933_568, rel=0.02)


def test_defaults_are_those_of_the_card() -> None:
    config = settle(parse_command(["tiny"]), MEASURED_MODEL, GPUS["h200"], 1).config

    assert (config.max_batch_size, config.max_num_tokens, config.tokens_per_block) == (1024, 8192, 16)
    assert config.cuda_graphs is not None
    assert len(config.cuda_graphs.captured_sizes(config.max_batch_size)) == 51


def test_numbers_underscores_and_negated_switches_are_read() -> None:
    command = parse_command(
        [
            "serve",
            "tiny",
            "--max_num_batched_tokens=8k",
            "--no-enable-prefix-caching",
            "-tp",
            "2",
            "--max-model-len",
            "4K",
        ]
    )

    assert command.max_num_batched_tokens == 8000
    assert command.max_model_len == 4096
    assert command.tensor_parallel_size == 2
    assert command.enable_prefix_caching is False


def test_a_yaml_file_is_read_and_typed_options_win(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("max-num-seqs: 16\nenforce_eager: true\nstream-interval: 4\n", encoding="utf-8")

    command = parse_command(["serve", "tiny", "--config", str(path), "--max-num-seqs", "32"])

    assert (command.max_num_seqs, command.enforce_eager, command.stream_interval) == (32, True, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gpu-memory-utilization", "1.0"), "Decrease GPU memory utilization"),
        (("--max-num-seqs", "9000"), "must be greater than or equal to max_num_seqs"),
        (("--no-enable-chunked-prefill", "--max-num-batched-tokens", "2048"), "is smaller than max_model_len"),
        (("--num-gpu-blocks-override", "16"), "To serve at least one request"),
    ],
)
def test_other_contradictions_are_refused_with_words_that_name_them(arguments: tuple[str, ...], words: str) -> None:
    assert words in str(refused(*arguments))
