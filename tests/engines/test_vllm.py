"""vLLM: its command line, and what it told on an H200 (captures of 0.24.0)."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from engines._prometheus import parse_page
from engines._vllm_metrics import VllmReader
from engines.errors import BadConfiguration, EngineError
from engines.failure import Failure
from engines.knob import Value
from engines.launch.container import Container
from engines.launch.log import LineSplitter, ServerLog
from engines.launch.spec import LaunchRequest
from engines.vllm import DEVELOPMENT, ENGINE, MODULE

from .conftest import Handler, Serve


def request(
    *arguments: str,
    command: tuple[str, ...] = (),
    container: Container | None = None,
    host: str = "127.0.0.1",
    **params: Value,
) -> LaunchRequest:
    named = {name.replace("_", "-"): value for name, value in params.items()}
    return LaunchRequest("org/model", named, host, 8123, Path("work"), command, arguments, container=container)


def page(text: str, kind: str = "text/plain") -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=kind)

    return answer


def captured(data: Path) -> dict[str, Handler]:
    return {
        "/version": page((data / "vllm/version.json").read_text(), "application/json"),
        "/v1/models": page((data / "vllm/models.json").read_text(), "application/json"),
        "/metrics": page((data / "vllm/metrics.prom").read_text()),
    }


def start_failure(path: Path) -> Failure | None:
    log, splitter = ServerLog(ENGINE.launch(request()).failures), LineSplitter()
    for line in (*splitter.feed(path.read_bytes()), *splitter.close()):
        log.add(line)
    return log.failure(1)


def test_settings_become_flags() -> None:
    spec = ENGINE.launch(request(max_num_seqs=64.0, enable_prefix_caching=False, enforce_eager=True))

    assert spec.argv[:7] == ("vllm", "serve", "org/model", "--host", "127.0.0.1", "--port", "8123")
    assert spec.argv[7:] == ("--max-num-seqs", "64", "--no-enable-prefix-caching", "--enforce-eager")


def test_the_module_takes_the_model_as_an_option() -> None:
    spec = ENGINE.launch(request(command=("python", "-m", MODULE)))

    assert spec.argv[:5] == ("python", "-m", MODULE, "--model", "org/model")


def test_a_package_without_its_command_is_started_as_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", "")

    available, words = ENGINE.available()

    assert ENGINE.launch(request()).argv[1:5] == ("-m", MODULE, "--model", "org/model")
    assert available
    assert "package" in words


def test_the_page_of_settings_is_opened_on_loopback_only() -> None:
    assert ENGINE.launch(request()).environment == DEVELOPMENT
    assert ENGINE.launch(request(host="192.0.2.1")).environment == {}


def test_behind_a_bridge_it_listens_inside_the_container() -> None:
    spec = ENGINE.launch(request(container=Container("vllm:1", network="bridge", port=8000)))

    assert spec.argv[3:7] == ("--host", "0.0.0.0", "--port", "8000")
    assert spec.url == "http://127.0.0.1:8123"


def test_the_access_token_is_inherited_by_name_only() -> None:
    spec = ENGINE.launch(request())

    assert spec.inherit == ("HF_TOKEN",)
    assert "HF_TOKEN" not in spec.environment


@pytest.mark.parametrize(
    ("argument", "params"),
    [
        ("--port=1", {}),
        ("--max-num-seqs=8", {"max-num-seqs": 4}),
        ("-tp", {"tensor-parallel-size": 2}),
        ("--no-enable-prefix-caching", {"enable-prefix-caching": True}),
        ("--max_num_seqs", {"max-num-seqs": 4}),
    ],
)
def test_nothing_is_said_twice(argument: str, params: dict[str, Value]) -> None:
    with pytest.raises(BadConfiguration, match=f"argument {argument.partition('=')[0]}"):
        ENGINE.launch(LaunchRequest("m", params, "127.0.0.1", 8123, Path("work"), arguments=(argument,)))


def test_flags_are_those_of_the_captured_usage_text(data: Path) -> None:
    usage = (data / "vllm/failures/fail_bad_flag.log").read_text()
    shown = set(re.findall(r"\[--([a-z][a-z-]+)", usage))

    ours = {knob.name for knob in ENGINE.knobs()} & shown

    assert {"max-num-seqs", "max-num-batched-tokens", "kv-cache-dtype", "performance-mode", "spec-tokens"} <= ours
    assert len(ours) >= 20


def test_choices_are_those_of_the_captured_usage_text(data: Path) -> None:
    usage = (data / "vllm/failures/fail_bad_flag.log").read_text()

    for knob in ENGINE.knobs():
        found = re.search(rf"--{knob.name} {{([^}}]+)}}", usage)
        if found:
            assert {str(choice) for choice in knob.choices if choice is not None} <= set(found[1].split(",")), knob.name


@pytest.mark.parametrize(
    ("name", "kind", "accused"),
    [
        ("fail_kv_too_small", "out_of_memory", "gpu-memory-utilization"),
        ("fail_max_len_too_long", "bad_config", "max-model-len"),
        ("fail_tp_too_big", "bad_config", "tensor-parallel-size"),
    ],
)
def test_captured_failures_accuse_the_right_setting(data: Path, name: str, kind: str, accused: str) -> None:
    failure = start_failure(data / f"vllm/failures/{name}.log")

    assert failure is not None
    assert (failure.kind, failure.accuses[0]) == (kind, accused)


def test_a_captured_unknown_flag_is_named(data: Path) -> None:
    failure = start_failure(data / "vllm/failures/fail_bad_flag.log")

    assert failure is not None
    assert "--no-such-flag" in failure.text


def test_a_captured_good_start_means_no_failure(data: Path) -> None:
    assert start_failure(data / "vllm/start.log") is None


def test_what_is_in_force_is_read_from_the_captured_log(data: Path) -> None:
    effective = ENGINE.effective_from_log((data / "vllm/start.log").read_text().splitlines())

    assert effective["max-num-batched-tokens"] == 8192
    assert effective["max-model-len"] == 32768
    assert effective["async-scheduling"] is True
    assert effective["kv-cache-memory-bytes"] == int(113.96 * 2**30)
    assert set(effective) <= {knob.name for knob in ENGINE.knobs()}


async def test_captured_metrics_become_a_sample(data: Path, serve: Serve, http: aiohttp.ClientSession) -> None:
    ((_, sample),) = await ENGINE.metrics(http, await serve(captured(data))).poll()

    assert (sample.running, sample.waiting, sample.kv_used_ratio) == (0, 0, 0)
    assert sample.kv_capacity_tokens == 933_568
    assert (sample.prompt_tokens_total, sample.output_tokens_total) == (858_244, 230_192)
    assert (sample.requests_total, sample.iterations_total, sample.preemptions_total) == (1226, 3626, 0)


def test_means_are_of_what_happened_between_two_pages() -> None:
    reader = VllmReader()

    def text(steps: int, tokens: int, generated: int, queue_s: float, hits: int, queries: int) -> str:
        return (
            f'# TYPE vllm:iteration_tokens_total histogram\nvllm:iteration_tokens_total_bucket{{le="+Inf"}} {steps}\n'
            f"vllm:iteration_tokens_total_sum {tokens}\nvllm:iteration_tokens_total_count {steps}\n"
            f"vllm:generation_tokens_total {generated}\nvllm:num_requests_running 1\n"
            f"vllm:request_queue_time_seconds_sum {queue_s}\nvllm:request_queue_time_seconds_count {steps}\n"
            f"vllm:prefix_cache_hits_total {hits}\nvllm:prefix_cache_queries_total {queries}\n"
        )

    first = reader.read(parse_page(text(10, 1000, 400, 1.0, 0, 100), "test"))
    second = reader.read(parse_page(text(20, 2000, 600, 1.5, 30, 200), "test"))

    assert math.isnan(first.queue_ms)
    assert second.queue_ms == pytest.approx(50.0)
    assert second.context_tokens == pytest.approx(80.0)
    assert second.kv_hit_ratio == pytest.approx(0.3)


def test_engines_of_a_data_parallel_server_are_added_up() -> None:
    text = "".join(
        f'vllm:num_requests_running{{engine="{rank}"}} {rank + 1}\nvllm:kv_cache_usage_perc{{engine="{rank}"}} 0.{rank}\n'
        f'vllm:cache_config_info{{engine="{rank}",block_size="16",num_gpu_blocks="100"}} 1\n'
        for rank in (1, 2)
    )

    sample = VllmReader().read(parse_page(text, "test"))

    assert (sample.running, sample.kv_used_ratio, sample.kv_capacity_tokens) == (5, 0.2, 3200)


@given(st.dictionaries(st.sampled_from(["running", "waiting"]), st.floats(), min_size=1))
def test_numbers_that_are_no_measurement_are_left_out(values: dict[str, float]) -> None:
    text = "".join(f"vllm:num_requests_{name} {value}\n" for name, value in values.items())

    sample = VllmReader().read(parse_page(text, "test"))

    assert math.isnan(sample.running) or 0 <= sample.running <= 2.0**62


@pytest.mark.parametrize("text", ["", "other_metric 1\n"])
async def test_a_page_of_another_server_is_refused(serve: Serve, http: aiohttp.ClientSession, text: str) -> None:
    metrics = ENGINE.metrics(http, await serve({"/metrics": page(text)}))

    with pytest.raises(EngineError, match="none of vLLM's metrics"):
        await metrics.poll()


async def test_a_running_server_tells_who_it_is(data: Path, serve: Serve, http: aiohttp.ClientSession) -> None:
    info = await ENGINE.inspect(http, await serve(captured(data)))

    assert (info.version, info.model) == ("0.24.0", "m")
    assert info.effective["max-model-len"] == 32768
    assert info.effective["gpu-memory-utilization"] == 0.92
    assert info.effective["num-gpu-blocks-override"] == 58_348
    assert info.effective["enable-prefix-caching"] is True
    assert info.notes == ("no /server_info: max-num-seqs in force cannot be read back",)


async def test_in_development_mode_the_scheduler_is_read_back(
    data: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    told = '{"vllm_config": {"scheduler_config": {"max_num_seqs": 1024, "async_scheduling": "yes"}}}'
    info = await ENGINE.inspect(http, await serve(captured(data) | {"/server_info": page(told, "application/json")}))

    assert info.effective["max-num-seqs"] == 1024
    assert "async-scheduling" not in info.effective
    assert info.notes == ()


async def test_another_server_is_told_apart(serve: Serve, http: aiohttp.ClientSession) -> None:
    models = page('{"data": [{"id": "m", "owned_by": "sglang"}]}', "application/json")

    with pytest.raises(EngineError, match="is not a vLLM server"):
        await ENGINE.inspect(http, await serve({"/v1/models": models}))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"max-num-seqs": 512, "max-num-batched-tokens": 256}, "each request needs a token"),
        ({"enable-chunked-prefill": False, "max-num-batched-tokens": 512, "max-model-len": 4096}, "must hold"),
        ({"num-gpu-blocks-override": 10, "max-model-len": 4096}, "holds 160 tokens"),
        ({"enforce-eager": True, "max-cudagraph-capture-size": 64}, "no effect with enforce-eager"),
        ({"enable-expert-parallel": True}, "single GPU"),
    ],
)
def test_conflicts_are_named(params: dict[str, Value], text: str) -> None:
    assert text in (ENGINE.conflicts(params) or "")
