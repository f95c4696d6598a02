"""NIM for LLMs: its lines told apart, its variables and flags, its profiles, its metrics.

Pages and listings here are written after the contract: no container could be run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from engines._nim_metrics import NimReader, line_of_page
from engines._prometheus import parse_page
from engines.errors import BadConfiguration, EngineError
from engines.knob import Value
from engines.launch.container import USUAL_SHM_SIZE_BYTES, Container, Mount
from engines.launch.phases import CONTAINER, Phase, StartupPhases
from engines.launch.spec import LaunchRequest
from engines.nim import ENGINE, Line, line_of, parse_profiles, runnable

from .conftest import Handler, Serve

OLD = Container("registry/nim/meta/llama:1.8.4", gpus=("0",), mounts=(Mount("/cache", "/opt/nim/.cache"),))
NEW = Container("registry/nim/meta/llama:2.0.5", network="bridge")
ID = "dcec66a50892315842bdc46d5b2d8648fed3fe3d3382437f0a811c56eff8c39c"

LISTING = f"""\
SYSTEM INFO
- Free GPUs:
  -  [20b2:10de] (0) NVIDIA A100-SXM4-80GB [current utilization: 0%]
MODEL PROFILES
- Compatible with system and runnable:
  - {ID} (vllm-bf16-tp1-pp1) [requires >=18 GB/gpu]
  - {"b" * 64} (tensorrt_llm-h100-fp8-tp2-pp1-throughput)
  - With LoRA support:
    - {"c" * 64} (vllm-bf16-tp1-pp1-feat_lora) [requires >=22 GB/gpu]
- Compatible with system but low memory:
  - {"d" * 64} (vllm-bf16-tp1-pp1) [requires >=45 GB/gpu, try --max-model-len=4096 to reduce to >=30 GB/gpu]
- Incompatible with system:
  - {"e" * 64} (sglang-nvfp4-tp8-pp2)
"""

OWN_PAGE = """\
# TYPE num_requests_running gauge
num_requests_running{model_name="m"} 3
# TYPE num_requests_waiting gauge
num_requests_waiting{model_name="m"} 2
num_request_max{model_name="m"} 256
gpu_cache_usage_perc{model_name="m"} 0.25
# TYPE prompt_tokens_total counter
prompt_tokens_total{model_name="m"} 100
# TYPE generation_tokens_total counter
generation_tokens_total{model_name="m"} 174
# TYPE request_success_total counter
request_success_total{model_name="m"} 5
"""


def request(container: Container | None, params: Mapping[str, Value] | None = None, model: str = "") -> LaunchRequest:
    return LaunchRequest(model, params or {}, "127.0.0.1", 8123, Path("work"), container=container)


def page(told: object) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=told) if isinstance(told, str) else web.json_response(told)

    return answer


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1.8.4", Line.V1),
        ("registry/nim/meta/llama:1.15.0-variant", Line.VARIANT),
        ("v1.2", Line.V1),
        ("registry/nim/meta/llama:1.8.4@sha256:0a1b2c", Line.V1),
        ("1.8.4 registry/nim/meta/llama:latest", Line.V1),
        ("2.1.5 registry/nim/model-sglang:latest", Line.SGLANG),
        ("2.0.5", Line.VLLM),
        ("3.0.0", Line.VLLM),
        ("registry:5000/nim/model", Line.VLLM),
        ("registry/nim/model:latest", Line.VLLM),
        ("registry/nim/model:2.1.5-sglang", Line.SGLANG),
        ("", Line.VLLM),
    ],
)
def test_lines_are_told_apart(text: str, line: Line) -> None:
    assert line_of(text) is line


def test_a_variant_image_takes_sglangs_policies_and_not_what_it_would_ignore() -> None:
    image = replace(OLD, image="registry/nim/meta/llama:1.15.0-variant")

    spec = ENGINE.launch(request(image, {"NIM_SCHEDULER_POLICY": "lpm", "NIM_KVCACHE_PERCENT": 0.85}))

    assert spec.argv == ()
    assert spec.environment["NIM_SCHEDULER_POLICY"] == "lpm"
    with pytest.raises(BadConfiguration, match="has no setting 'NIM_FORCE_DETERMINISTIC'; such images ignore"):
        ENGINE.launch(request(image, {"NIM_FORCE_DETERMINISTIC": True}))
    with pytest.raises(BadConfiguration, match="NIM_SCHEDULER_POLICY cannot be 'max_utilization'"):
        ENGINE.launch(request(image, {"NIM_SCHEDULER_POLICY": "max_utilization"}))


def test_the_plans_version_tells_the_line_of_an_image_whose_tag_does_not() -> None:
    untold = replace(OLD, image="registry/nim/meta/llama:latest")

    spec = ENGINE.launch(replace(request(untold, {"NIM_KVCACHE_PERCENT": 0.85}), version="1.15.0"))

    assert spec.environment["NIM_KVCACHE_PERCENT"] == "0.85"
    with pytest.raises(BadConfiguration, match=r"NIM 2\.x with vLLM has no setting 'NIM_KVCACHE_PERCENT'"):
        ENGINE.launch(request(untold, {"NIM_KVCACHE_PERCENT": 0.85}))


def test_the_lines_have_different_knobs() -> None:
    old, new = ({knob.name for knob in ENGINE.knobs(version)} for version in ("1.8.4", "2.0.5"))

    assert old & new == {"NIM_MODEL_PROFILE"}
    assert "NIM_KVCACHE_PERCENT" in old
    assert "max-num-seqs" in new


def test_settings_of_the_old_line_are_variables() -> None:
    spec = ENGINE.launch(
        request(OLD, {"NIM_KVCACHE_PERCENT": 0.85, "NIM_ENABLE_KV_CACHE_REUSE": True, "NIM_MODEL_PROFILE": ID})
    )

    assert spec.argv == ()
    assert spec.environment == {
        "NIM_SERVER_PORT": "8123",
        "NIM_HTTP_API_PORT": "8123",
        "NIM_KVCACHE_PERCENT": "0.85",
        "NIM_ENABLE_KV_CACHE_REUSE": "1",
        "NIM_MODEL_PROFILE": ID,
    }
    assert spec.ready_path == "/v1/health/ready"


def test_settings_of_the_new_line_are_flags() -> None:
    spec = ENGINE.launch(request(NEW, {"max-num-seqs": 64, "enable-prefix-caching": False}))

    assert spec.argv == ("nim-serve", "--max-num-seqs", "64", "--no-enable-prefix-caching")
    assert spec.environment["NIM_SERVER_PORT"] == "8000"
    assert spec.url == "http://127.0.0.1:8123"


def test_the_container_is_that_of_the_vendors_run_line() -> None:
    container = ENGINE.launch(request(OLD)).container

    assert container is not None
    assert container.keep_entrypoint
    assert container.shm_size_bytes == USUAL_SHM_SIZE_BYTES
    assert (container.gpus, container.mounts) == (OLD.gpus, OLD.mounts)


@pytest.mark.parametrize(("container", "name"), [(OLD, "NIM_MODEL_NAME"), (NEW, "NIM_MODEL_PATH")])
def test_a_model_is_named_to_an_image_without_one(container: Container, name: str) -> None:
    assert ENGINE.launch(request(container, model="hf://org/model")).environment[name] == "hf://org/model"


def test_keys_are_inherited_and_never_written_down() -> None:
    spec = ENGINE.launch(request(NEW))

    assert {"NGC_API_KEY", "HF_TOKEN"} <= set(spec.inherit)


def test_a_key_in_the_plan_is_refused() -> None:
    asked = LaunchRequest("", {}, "127.0.0.1", 8123, Path("work"), environment={"NGC_API_KEY": "secret"}, container=NEW)

    with pytest.raises(BadConfiguration, match="export it in the shell") as raised:
        ENGINE.launch(asked)

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("container", "name", "hint"),
    [(NEW, "NIM_KVCACHE_PERCENT", "2.x takes vLLM's flags"), (OLD, "max-num-seqs", r"1\.x takes NIM_\* variables")],
)
def test_a_setting_of_the_other_line_is_refused_with_what_this_one_takes(
    container: Container, name: str, hint: str
) -> None:
    with pytest.raises(BadConfiguration, match=hint):
        ENGINE.launch(request(container, {name: 0.5}))


@pytest.mark.parametrize("profile", ["", "x y", 7, "$(id)"])
def test_what_is_no_profile_is_refused(profile: Value) -> None:
    with pytest.raises(BadConfiguration, match="list-model-profiles"):
        ENGINE.launch(request(NEW, {"NIM_MODEL_PROFILE": profile}))


def test_arguments_of_the_old_line_are_refused() -> None:
    with pytest.raises(BadConfiguration, match="replace its own command"):
        ENGINE.launch(LaunchRequest("", {}, "127.0.0.1", 1, Path("work"), arguments=("--x",), container=OLD))


def test_a_configuration_is_checked_without_a_start() -> None:
    spec = ENGINE.pre_check(request(NEW, {"max-num-seqs": 8}))

    assert spec is not None
    assert spec.argv == ("nim-serve", "--max-num-seqs", "8", "--dry-run")
    assert ENGINE.pre_check(request(OLD)) is None


def test_profiles_are_read_by_heading_and_id() -> None:
    profiles = {profile.id: profile for profile in parse_profiles(LISTING.splitlines())}

    assert [profile.fit for profile in profiles.values()] == [
        "runnable", "runnable", "runnable", "low memory", "incompatible",
    ]  # fmt: skip
    first, tensorrt = profiles[ID], profiles["b" * 64]
    assert (first.backend, first.precision, first.tensor_parallel, first.needs_gb) == ("vllm", "bf16", 1, 18)
    assert (tensorrt.backend, tensorrt.precision, tensorrt.tensor_parallel) == ("tensorrt_llm", "fp8", 2)
    assert profiles["c" * 64].lora
    assert (profiles["e" * 64].tensor_parallel, profiles["e" * 64].pipeline_parallel) == (8, 2)


def test_runnable_profiles_are_values_of_the_knob_and_can_be_started() -> None:
    found = runnable(parse_profiles(LISTING.splitlines()))

    assert [profile.id for profile in found] == [ID, "b" * 64]
    (knob,) = (knob for knob in ENGINE.knobs("2.0.5") if knob.name == "NIM_MODEL_PROFILE")
    for profile in found:
        assert knob.allows(profile.id)
        assert ENGINE.launch(request(NEW, {"NIM_MODEL_PROFILE": profile.id})).argv
    assert not knob.allows("runnable")


def test_groups_of_the_old_line_are_told_apart() -> None:
    listing = f"""\
- Compatible with system and runnable:
  - {"a" * 64} (vllm-bf16-tp1)
  - With LoRA support:
    - {"b" * 64} (vllm-bf16-tp1-lora)
- Compilable to TRT-LLM using just-in-time compilation of HF models to TRTLLM engines:
  - {"c" * 64} (tensorrt_llm-trtllm_buildable-bf16-tp1)
  - With LoRA support:
    - {"d" * 64} (tensorrt_llm-trtllm_buildable-bf16-tp1-lora)
- Compatible with system but not runnable due to low GPU free memory
  - {"e" * 64} (vllm-fp16-tp1)
- Incompatible with system:
  - {"f" * 64} (tensorrt_llm-h100-fp8-tp2-throughput)
"""
    profiles = parse_profiles(listing.splitlines())

    assert [(profile.fit, profile.lora) for profile in profiles] == [
        ("runnable", False), ("runnable", True), ("runnable", False), ("runnable", True), ("low memory", False),
        ("incompatible", False),
    ]  # fmt: skip
    assert [profile.id[0] for profile in runnable(profiles)] == ["a", "c"]
    assert profiles[2].backend == "tensorrt_llm"


def test_sglang_inside_is_started_with_metrics() -> None:
    spec = ENGINE.launch(request(Container("registry/nim/sglang-model-free-nim:2.1.5"), {"mem-fraction-static": 0.8}))

    assert spec.argv == ("nim-serve", "--enable-metrics", "--mem-fraction-static", "0.8")


@given(st.lists(st.text() | st.sampled_from(LISTING.splitlines())))
def test_any_listing_can_be_read(lines: list[str]) -> None:
    assert all(len(profile.id) == 64 for profile in parse_profiles(lines))


def test_the_page_of_the_old_line_becomes_a_sample() -> None:
    sample = NimReader().read(parse_page(OWN_PAGE, "test"))

    assert (sample.running, sample.waiting, sample.max_batch_size, sample.kv_used_ratio) == (3, 2, 256, 0.25)
    assert (sample.prompt_tokens_total, sample.output_tokens_total, sample.requests_total) == (100, 174, 5)
    assert math.isnan(sample.kv_hit_ratio)


def test_a_vllm_profile_of_the_old_line_tells_its_prefix_cache() -> None:
    reader = NimReader()

    def text(hits: int, queries: int) -> str:
        return f"{OWN_PAGE}vllm:prefix_cache_hits_total {hits}\nvllm:prefix_cache_queries_total {queries}\n"

    reader.read(parse_page(text(0, 0), "test"))
    sample = reader.read(parse_page(text(5, 10), "test"))

    assert line_of_page(parse_page(text(0, 0), "test")) is Line.V1
    assert sample.kv_hit_ratio == 0.5


async def test_the_page_of_the_new_line_is_that_of_its_engine(
    data: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    url = await serve({"/v1/metrics": page((data / "vllm/metrics.prom").read_text())})

    ((_, sample),) = await ENGINE.metrics(http, url).poll()

    assert sample.kv_capacity_tokens == 933_568


async def test_a_page_of_another_server_is_refused(serve: Serve, http: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineError, match="none of NVIDIA NIM's metrics"):
        await ENGINE.metrics(http, await serve({"/v1/metrics": page("up 1\n")})).poll()


def running(metrics: str, release: str, metadata: dict[str, object]) -> dict[str, Handler]:
    return {
        "/v1/models": page({"data": [{"id": "meta/llama", "max_model_len": 8192}]}),
        "/v1/version": page({"release": release, "api": "1.0"}),
        "/v1/metadata": page(metadata),
        "/v1/metrics": page(metrics),
    }


async def test_a_running_server_of_the_old_line_tells_who_it_is(serve: Serve, http: aiohttp.ClientSession) -> None:
    url = await serve(running(OWN_PAGE, "1.8.4", {"selectedModelProfileId": ID}))

    info = await ENGINE.inspect(http, url)

    assert (info.version, info.model) == ("1.8.4", "meta/llama")
    assert info.effective == {"NIM_MAX_MODEL_LEN": 8192, "NIM_MODEL_PROFILE": ID}
    assert info.notes == (f"NIM {Line.V1.value}",)


async def test_a_running_server_of_the_new_line_tells_its_engines_settings(
    data: Path, serve: Serve, http: aiohttp.ClientSession
) -> None:
    url = await serve(running((data / "vllm/metrics.prom").read_text(), "2.0.5", {}))

    info = await ENGINE.inspect(http, url)

    assert info.effective["max-model-len"] == 8192
    assert info.effective["gpu-memory-utilization"] == 0.92
    assert set(info.effective) <= {knob.name for knob in ENGINE.knobs(info.version)}


async def test_another_server_is_told_apart(serve: Serve, http: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineError, match="is not a NIM"):
        await ENGINE.inspect(http, await serve({"/v1/models": page(json.loads('{"data": []}'))}))


def test_the_chosen_profile_is_read_from_the_log() -> None:
    assert ENGINE.effective_from_log([f"INFO Selected profile: {ID} (vllm-bf16-tp1-pp1)"]) == {"NIM_MODEL_PROFILE": ID}


def test_the_phases_of_a_start_are_timed(data: Path) -> None:
    now = iter(range(100_000))
    phases = StartupPhases(ENGINE.startup_phases, CONTAINER, clock=lambda: float(next(now)))
    phases.line("INFO Preparing model workspace. This step might download additional files to run the model.")
    for line in (data / "vllm/start.log").read_text().splitlines():
        phases.line(line)
    before = phases.phases()
    phases.ready()

    assert [phase.name for phase in before] == ["container", "download", "load"]
    assert [phase.name for phase in phases.phases()] == ["container", "download", "load", "warm-up"]


def test_a_phase_that_is_told_late_does_not_turn_the_time_back() -> None:
    now = iter((0.0, 1.0, 3.0, 9.0))
    phases = StartupPhases(ENGINE.startup_phases, CONTAINER, clock=lambda: next(now))

    phases.line("hello")
    phases.line("Loading model weights")
    phases.line("Downloading the tokenizer")
    phases.ready()

    assert phases.phases() == (Phase("container", 1.0), Phase("prepare", 2.0), Phase("load", 6.0))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"NIM_ENABLE_KV_CACHE_HOST_OFFLOAD": True}, "needs NIM_ENABLE_KV_CACHE_REUSE"),
        ({"NIM_NUM_KV_CACHE_SEQ_LENS": 4}, "needs NIM_RELAX_MEM_CONSTRAINTS"),
        ({"max-num-seqs": 512, "max-num-batched-tokens": 256}, "each request needs a token"),
    ],
)
def test_conflicts_are_named(params: dict[str, Value], text: str) -> None:
    assert text in (ENGINE.conflicts(params) or "")
