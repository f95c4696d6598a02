"""How settings become a YAML file and a command for trtllm-serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engines._trtllm_failures import FAILURES
from engines.errors import BadConfiguration
from engines.knob import Value
from engines.launch.container import Container
from engines.launch.phases import StartupPhases
from engines.launch.spec import LaunchRequest, LaunchSpec
from engines.trtllm import ENGINE, yaml_text


def request(params: Mapping[str, Value], **more: Any) -> LaunchRequest:
    return LaunchRequest("org/model", params, "127.0.0.1", 8123, Path("work"), **more)


def yaml_of(spec: LaunchSpec) -> dict[str, Any]:
    (text,) = spec.files.values()
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


def test_the_command_names_only_what_is_not_tuned() -> None:
    spec = ENGINE.launch(request({"max_batch_size": 64, "tensor_parallel_size": 2}))

    assert spec.argv == (
        *("trtllm-serve", "serve", "org/model", "--host", "127.0.0.1", "--port", "8123"),
        *("--backend", "pytorch", "--config", "work/trtllm-serve.yaml"),
    )
    assert spec.url == "http://127.0.0.1:8123"


def test_settings_are_nested_in_the_yaml_and_statistics_are_on() -> None:
    spec = ENGINE.launch(
        request(
            {
                "max_batch_size": 64.0,
                "kv_cache_config.free_gpu_memory_fraction": 0.8,
                "kv_cache_config.enable_block_reuse": False,
                "scheduler_config.capacity_scheduler_policy": "MAX_UTILIZATION",
            }
        )
    )

    assert yaml_of(spec) == {
        "max_batch_size": 64,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.8, "enable_block_reuse": False},
        "scheduler_config": {"capacity_scheduler_policy": "MAX_UTILIZATION"},
        "enable_iter_perf_stats": True,
        "return_perf_metrics": True,
    }


def test_the_baseline_leaves_every_setting_to_the_server() -> None:
    assert set(yaml_of(ENGINE.launch(request({})))) == {"enable_iter_perf_stats", "return_perf_metrics"}


def test_cuda_graphs_switched_off_are_null_whatever_else_is_said_of_them() -> None:
    params = {"cuda_graph_config.enabled": False, "cuda_graph_config.max_batch_size": 64}

    assert yaml_of(ENGINE.launch(request(params)))["cuda_graph_config"] is None


def test_cuda_graphs_switched_on_keep_their_settings() -> None:
    params = {"cuda_graph_config.enabled": True, "cuda_graph_config.enable_padding": True}

    assert yaml_of(ENGINE.launch(request(params)))["cuda_graph_config"] == {"enable_padding": True}


def test_another_program_takes_the_same_words_and_the_plans_arguments_last() -> None:
    spec = ENGINE.launch(
        request({}, command=("python", "-m", "engines.simulated"), arguments=("--sim-gpu", "h100-sxm"))
    )

    assert spec.argv[:4] == ("python", "-m", "engines.simulated", "serve")
    assert spec.argv[-2:] == ("--sim-gpu", "h100-sxm")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("max_batchsize", "'max_batch_size'"),
        ("free_gpu_memory_fraction", "'kv_cache_config.free_gpu_memory_fraction'"),
        ("cuda_graph_config.padding", "'cuda_graph_config.enable_padding'"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(BadConfiguration, match=f"no setting '{name}'; did you mean {hint}"):
        ENGINE.launch(request({name: 1}))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("max_batch_size", 0, "a whole number from 1 to 8192"),
        ("max_batch_size", 1.5, "a whole number"),
        ("max_batch_size", True, "a whole number"),
        ("kv_cache_config.free_gpu_memory_fraction", 1.2, "a number from 0.05 to 0.99"),
        ("enable_chunked_prefill", "yes", "true or false"),
        ("scheduler_config.capacity_scheduler_policy", "BEST", "GUARANTEED_NO_EVICT, MAX_UTILIZATION"),
    ],
)
def test_a_value_out_of_its_domain_is_refused_with_what_is_allowed(name: str, value: Value, allowed: str) -> None:
    with pytest.raises(BadConfiguration, match=f"{name} cannot be .*; allowed: {allowed}"):
        ENGINE.launch(request({name: value}))


@pytest.mark.parametrize("arguments", [("--tp_size", "2"), ("--tensor_parallel_size=2",), ("--cp_size=2",)])
def test_a_setting_is_not_also_taken_from_the_command_line(arguments: tuple[str, ...]) -> None:
    with pytest.raises(BadConfiguration, match="_parallel_size say the same"):
        ENGINE.launch(request({"tensor_parallel_size": 2, "context_parallel_size": 2}, arguments=arguments))


@pytest.mark.parametrize("argument", ["--port", "--config=x.yaml", "--extra_llm_api_options"])
def test_arguments_do_not_give_what_trtune_gives(argument: str) -> None:
    with pytest.raises(BadConfiguration, match="is given by trtune itself"):
        ENGINE.launch(request({}, arguments=(argument,)))


@pytest.mark.parametrize(
    ("version", "perf_metrics"),
    [
        *[("", True), ("1.0.0", False), ("1.2.1", False), ("1.3.0rc12", False)],
        *[("1.3.0rc13", True), ("1.3.0rc28", True), ("1.3.0", True)],
    ],
)
def test_builds_in_which_readers_race_get_no_second_reader(version: str, perf_metrics: bool) -> None:
    wanted = {"enable_iter_perf_stats", "return_perf_metrics"} if perf_metrics else {"enable_iter_perf_stats"}

    assert set(yaml.safe_load(yaml_text({}, version))) == wanted


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"tensor_parallel_size": 4, "moe_expert_parallel_size": 8}, "does not divide"),
        ({"enable_attention_dp": True}, "no effect with tensor_parallel_size 1"),
        ({"max_batch_size": 2048, "max_num_tokens": 1024}, "is more than max_num_tokens"),
        ({"max_batch_size": 64, "cuda_graph_config.max_batch_size": 128}, "never used"),
        ({"enable_chunked_prefill": True, "max_num_tokens": 1000}, "must be a multiple of tokens_per_block 32"),
        ({"kv_cache_config.max_tokens": 4096, "max_seq_len": 8192}, "does not fit"),
        ({"enable_early_first_token_response": True, "disable_overlap_scheduler": True}, "overlap scheduler"),
        ({"batch_wait_max_tokens_ratio": 0.5}, "no effect without"),
    ],
)
def test_settings_that_cannot_work_together_are_named(params: dict[str, Value], reason: str) -> None:
    found = ENGINE.conflicts(params)

    assert found is not None
    assert reason in found


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"tensor_parallel_size": 8, "moe_expert_parallel_size": 4},
        {"max_batch_size": 64},
        {"max_batch_size": 64, "cuda_graph_config.max_batch_size": 128, "cuda_graph_config.enabled": False},
        {"enable_chunked_prefill": True, "max_num_tokens": 8192},
    ],
)
def test_settings_that_go_together_are_let_through(params: dict[str, Value]) -> None:
    assert ENGINE.conflicts(params) is None


@given(st.floats(1, 100_000))
def test_starting_points_are_valid_and_free_of_conflicts(concurrency: float) -> None:
    knobs = {knob.name: knob for knob in ENGINE.knobs()}

    for params in ENGINE.starting_points(concurrency):
        assert all(knobs[name].allows(value) for name, value in params.items())
        assert ENGINE.conflicts(params) is None


def test_what_is_in_force_is_read_from_the_log() -> None:
    lines = [
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 0.06 GiB for max tokens in paged KV cache (512).",
        "[12/20/2025-04:21:10] [TRT-LLM] [W] Adjusted max_seq_len to 8224",
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 0.56 GiB for max tokens in paged KV cache (8224).",
        "[12/20/2025-04:21:10] [TRT-LLM] [I] max_seq_len=8224, max_num_requests=64, max_num_tokens=8192, max_batch_size=64",
    ]

    assert ENGINE.effective_from_log(lines) == {
        "max_seq_len": 8224,
        "max_num_tokens": 8192,
        "max_batch_size": 64,
        "kv_cache_config.max_tokens": 8224,
    }


def test_the_phases_of_a_start_are_told_from_its_log() -> None:
    now = iter(range(0, 100, 10))
    phases = StartupPhases(ENGINE.startup_phases, clock=lambda: float(next(now)))

    for line in (
        "[TRT-LLM] [I] Using LLM with PyTorch backend",
        "[TRT-LLM] [I] Loading weights concurrently",
        "[TRT-LLM] [I] Peak memory during memory usage profiling (torch + non-torch): 9.1 GiB",
        "[TRT-LLM] [I] Creating CUDA graph instances for 34 batch sizes.",
    ):
        phases.line(line)
    phases.ready()

    assert [phase.name for phase in phases.phases()][-2:] == ["load", "warm-up"]


def test_in_a_container_it_listens_behind_the_bridge_and_open_mpi_may_be_root() -> None:
    container = Container("nvidia/tensorrt-llm/release:1.2.1", network="bridge", port=8000)

    spec = ENGINE.launch(request({}, container=container, version="1.2.1"))

    assert spec.argv[spec.argv.index("--host") + 1] == "0.0.0.0"
    assert spec.argv[spec.argv.index("--port") + 1] == "8000"
    assert spec.environment["OMPI_ALLOW_RUN_AS_ROOT"] == "1"
    assert spec.container == container


@pytest.mark.parametrize(
    ("image", "option", "keys"),
    [
        ("registry:5000/tensorrt-llm/release:1.0.0", "--extra_llm_api_options", {"enable_iter_perf_stats"}),
        ("tensorrt-llm/release:1.2.1@sha256:0a1b", "--config", {"enable_iter_perf_stats"}),
        ("registry:5000/own/image", "--config", {"enable_iter_perf_stats", "return_perf_metrics"}),
    ],
)
def test_an_images_tag_tells_the_version(image: str, option: str, keys: set[str]) -> None:
    spec = ENGINE.launch(request({}, container=Container(image)))

    assert option in spec.argv
    assert set(yaml_of(spec)) == keys


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("RuntimeError: Failed to bind socket to 127.0.0.1:8123", "(port 8123)"),
        ("RuntimeError: Failed to bind socket to [::1]:8123: [Errno 98] Address already in use", "(port 8123)"),
        ("OSError: [Errno 98] Address already in use", "is taken: stop"),
    ],
)
def test_a_taken_port_is_told_as_the_server_names_it(line: str, told: str) -> None:
    rule = next(rule for rule in FAILURES if rule.pattern.search(line))

    assert told in rule.explain(line)
