"""The settings of TensorRT-LLM by version line, and how they become YAML and are read from it (contract trtllm 5)."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engines._trtllm_knobs import KNOBS
from engines._trtllm_versions import LADDER, parse_version
from engines._trtllm_yaml import flat_settings, nested, parse_settings, read_settings
from engines.errors import BadConfiguration
from engines.knob import Value
from engines.launch.spec import LaunchRequest
from engines.simulated.trtllm.arguments import validate_arguments
from engines.simulated.trtllm.versions import ServerVersion
from engines.trtllm import ENGINE, yaml_text


def names(version: str) -> set[str]:
    return {knob.name for knob in ENGINE.knobs(version)}


def choices(version: str, name: str) -> tuple[Value, ...]:
    return next(knob.choices for knob in ENGINE.knobs(version) if knob.name == name)


@pytest.mark.parametrize("version", ["", *LADDER])
def test_a_version_has_every_setting_once_and_its_conditions_too(version: str) -> None:
    knobs = {knob.name: knob for knob in ENGINE.knobs(version)}

    assert max(Counter(knob.name for knob in ENGINE.knobs(version)).values()) == 1
    for knob in knobs.values():
        assert knob.allows(knob.default), knob.name
        for name, values in knob.requires.items():
            assert all(knobs[name].allows(value) for value in values), (knob.name, name)


def test_the_forms_of_one_setting_do_not_overlap() -> None:
    for name, count in Counter(entry.knob.name for entry in KNOBS).items():
        forms = sorted((entry for entry in KNOBS if entry.knob.name == name), key=lambda entry: entry.since)
        assert all(before.until == after.since for before, after in pairwise(forms)), name
        assert len(forms) == count


@pytest.mark.parametrize(
    ("name", "first", "before"),
    [
        ("batch_wait_timeout_ms", "1.1.0", "1.0.0"),
        ("context_parallel_size", "1.2.0", "1.1.0"),
        ("kv_cache_config.tokens_per_block", "1.1.0", "1.0.0"),
        ("kv_cache_config.max_gpu_total_bytes", "1.1.0", "1.0.0"),
        ("speculative_config.max_concurrency", "1.1.0", "1.0.0"),
        ("max_stats_len", "1.2.1", "1.1.0"),
        ("pp_partition", "1.2.1", "1.1.0"),
        ("scheduler_config.waiting_queue_policy", "1.3.0rc20", "1.2.1"),
        ("use_cute_dsl_blockscaling_mm", "1.3.0rc20", "1.2.1"),
        ("scheduler_config.enable_prefix_aware_scheduling", "1.3.0rc27", "1.3.0rc20"),
        ("speculative_config.acceptance_rate_threshold", "1.3.0rc28", "1.3.0rc20"),
        ("enable_early_first_token_response", "1.3.0rc1", "1.2.1"),
        ("prefill_cuda_graph_backend", "1.3.0rc21", "1.3.0rc20"),
        ("num_serve_frontends", "1.3.0rc28", "1.3.0rc12"),
    ],
)
def test_a_setting_begins_with_its_version(name: str, first: str, before: str) -> None:
    assert name in names(first)
    assert name not in names(before)


@pytest.mark.parametrize(
    ("name", "last", "after"),
    [
        ("sampler_type", "1.3.0rc20", "1.3.0rc21"),
        ("perf_metrics_max_requests", "1.2.1", "1.3.0rc28"),
        ("speculative_config.speculative_model_dir", "1.1.0", "1.2.1"),
        ("speculative_config.num_nextn_predict_layers", "1.2.1", "1.3.0rc12"),
        ("speculative_config.acceptance_length_threshold", "1.3.0rc20", "1.3.0rc28"),
    ],
)
def test_a_setting_ends_with_its_version(name: str, last: str, after: str) -> None:
    assert name in names(last)
    assert name not in names(after)


def test_values_are_those_of_the_version() -> None:
    assert "nvfp4" not in choices("1.1.0", "kv_cache_config.dtype")
    assert "nvfp4" in choices("1.2.1", "kv_cache_config.dtype")
    assert "TRITON" not in choices("1.0.0", "moe_config.backend")
    assert "WIDEEP" in choices("1.3.0rc20", "moe_config.backend")
    assert "WIDEEP" not in choices("1.3.0rc28", "moe_config.backend")
    assert "NCCL_SYMMETRIC" not in choices("1.0.0", "allreduce_strategy")
    assert "FORCE_CHUNK" in choices("", "scheduler_config.context_chunking_policy")


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.1"])
def test_methods_of_speculation_are_spelt_as_the_version_reads_them(version: str) -> None:
    methods = choices(version, "speculative_config.decoding_type")

    assert methods == (None, "NGram", "Eagle", "MTP", "DraftTarget", "AUTO")
    assert {"Eagle3", "Draft_Target"} <= set(choices("1.3.0rc20", "speculative_config.decoding_type"))


@pytest.mark.parametrize("version", LADDER)
def test_the_simulated_server_takes_the_file_of_all_defaults(version: str) -> None:
    knobs = ENGINE.knobs(version)
    text = yaml_text({knob.name: knob.default for knob in knobs}, version)

    validate_arguments(yaml.safe_load(text), ServerVersion.parse(version))


def test_the_plans_version_decides_which_settings_are_taken() -> None:
    request = LaunchRequest("m", {"sampler_type": "auto"}, "127.0.0.1", 1, Path("w"), version="1.2.1")

    assert "sampler_type" in next(iter(ENGINE.launch(request).files.values()))
    with pytest.raises(BadConfiguration, match="no setting 'sampler_type'"):
        ENGINE.launch(LaunchRequest("m", {"sampler_type": "auto"}, "127.0.0.1", 1, Path("w")))


@given(st.text())
def test_any_version_text_is_read_or_left(text: str) -> None:
    version = parse_version(text)

    assert version is None or version >= (1, 0)


def test_lists_are_lists_and_what_is_off_is_null_or_absent() -> None:
    tree = nested(
        ENGINE.knobs(),
        {
            "cuda_graph_config.batch_sizes": "1,2,4",
            "torch_compile_config.enable_inductor": True,
            "speculative_config.relaxed_topk": 4,
            "nvfp4_gemm_config.allowed_backends": "cutlass,cuda_core",
            "sparse_attention_config.algorithm": None,
            "max_seq_len": None,
        },
    )

    assert tree == {
        "cuda_graph_config": {"batch_sizes": [1, 2, 4]},
        "nvfp4_gemm_config": {"allowed_backends": ["cutlass", "cuda_core"]},
    }


def test_the_largest_graph_is_not_said_beside_the_list_of_graphs() -> None:
    tree = nested(ENGINE.knobs(), {"cuda_graph_config.batch_sizes": "1,8", "cuda_graph_config.max_batch_size": 8})

    assert tree == {"cuda_graph_config": {"batch_sizes": [1, 8]}}


def test_an_object_that_switches_something_on_is_there_when_asked_for() -> None:
    tree = nested(
        ENGINE.knobs(),
        {
            "torch_compile_config.enabled": True,
            "torch_compile_config.enable_fullgraph": False,
            "speculative_config.decoding_type": "NGram",
            "speculative_config.max_draft_len": 4,
            "speculative_config.relaxed_topk": 4,
        },
    )

    assert tree == {
        "torch_compile_config": {"enable_fullgraph": False},
        "speculative_config": {"decoding_type": "NGram", "max_draft_len": 4},
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cuda_graph_config.batch_sizes", "1,,2"),
        ("cuda_graph_config.batch_sizes", "1, 2"),
        ("cuda_graph_config.batch_sizes", 4),
        ("moe_config.load_balancer", " "),
        ("moe_config.load_balancer", "a\nb"),
    ],
)
def test_lists_and_texts_that_are_none_are_refused(name: str, value: Value) -> None:
    with pytest.raises(BadConfiguration, match=rf"{name} cannot be .*; allowed: (items|a name)"):
        ENGINE.launch(LaunchRequest("m", {name: value}, "127.0.0.1", 1, Path("w")))


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"pipeline_parallel_size": 2, "pp_partition": "20,20,20"}, "names 3 stages"),
        ({"tensor_parallel_size": 8, "moe_tensor_parallel_size": 2, "moe_expert_parallel_size": 2}, "is 4, not 8"),
        ({"cuda_graph_config.max_batch_size": 64, "cuda_graph_config.batch_sizes": "1,32"}, "must be 32"),
        ({"speculative_config.decoding_type": "MTP", "pipeline_parallel_size": 2}, "pipeline parallelism"),
        (
            {"speculative_config.decoding_type": "Eagle3", "speculative_config.max_draft_len": 3},
            "needs a draft model",
        ),
        ({"speculative_config.decoding_type": "NGram"}, "needs speculative_config.max_draft_len"),
        ({"speculative_config.max_draft_len": 3}, "no effect without"),
        (
            {
                "speculative_config.decoding_type": "MTP",
                "speculative_config.max_draft_len": 3,
                "max_batch_size": 512,
                "max_num_tokens": 1024,
            },
            "needs 2048 tokens",
        ),
        ({"prefill_cuda_graph_backend": "breakable", "torch_compile_config.enabled": True}, "excludes torch.compile"),
        ({"cp_config.cp_type": "HELIX", "cp_config.tokens_per_block": 64}, "must equal"),
        ({"kv_cache_config.disk_cache_size": 1 << 30}, "needs kv_cache_config.disk_cache_path"),
    ],
)
def test_settings_that_cannot_work_together_are_named(params: dict[str, Value], reason: str) -> None:
    assert reason in (ENGINE.conflicts(params) or "")


def test_a_file_of_settings_becomes_knobs_and_tells_what_is_none() -> None:
    text = (
        "max_batch_size: 512\ncuda_graph_config: null\nkv_cache_config:\n  dtype: fp8\n  no_such: 1\n"
        "pp_partition: [10, 10]\nspeculative_config:\n  decoding_type: MTP\n"
    )

    found, unknown = flat_settings(ENGINE.knobs(), parse_settings(text, "best.yaml"))

    assert found == {
        "max_batch_size": 512,
        "cuda_graph_config.enabled": False,
        "kv_cache_config.dtype": "fp8",
        "pp_partition": "10,10",
        "speculative_config.decoding_type": "MTP",
    }
    assert unknown == ("kv_cache_config.no_such",)


NO_MAPPINGS = {
    "tab": ("max_batch_size: 8\n\tmax_num_tokens: 8\n", r"is not YAML in line 2: .*spaces, not tabs"),
    "aliases": ("a: &x [1]\nb: *x\n", "aliases"),
    "list": ("- 1\n- 2\n", "it is a list"),
    "empty": ("", "it is empty"),
    "words": ("just words", "it is a single value"),
    "unclosed": ("a: [1", "is not YAML in line"),
    "brackets": ("[" * 50_000, "nest.* in line 1|in line 1: .*nest"),
    "lines of brackets": ("[\n" * 50_000, "nests more than 64 levels deep in line 65"),
    "dashes": ("- " * 50_000, "nests more than 64 levels deep in line 1"),
    "not a date": ("a: 2026-99-99", "is not YAML: month must be"),
}


@pytest.mark.parametrize(("text", "told"), NO_MAPPINGS.values(), ids=NO_MAPPINGS)
def test_a_file_that_is_no_mapping_is_one_clear_line(text: str, told: str) -> None:
    with pytest.raises(BadConfiguration, match=told) as raised:
        parse_settings(text, "best.yaml")

    assert str(raised.value).startswith("best.yaml")
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(BadConfiguration, match=r"binary\.yaml is not UTF-8 text"):
        read_settings(binary)
    with pytest.raises(BadConfiguration, match=r"missing\.yaml cannot be read: No such file"):
        read_settings(tmp_path / "missing.yaml")
