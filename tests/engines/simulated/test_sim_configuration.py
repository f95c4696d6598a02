"""Flags and YAML: strictness, versions and precedence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engines.models import Precision
from engines.simulated.model import CapacityPolicy
from engines.simulated.trtllm.arguments import ignored_keys, validate_arguments
from engines.simulated.trtllm.command_line import ConfigFileError, merge_settings, parse_command, read_config
from engines.simulated.trtllm.engine_settings import engine_config
from engines.simulated.trtllm.versions import ServerVersion, VersionError
from tests.engines.simulated.sim_builders import TINY

NEW = ServerVersion.parse("1.3.0rc20")
OLD = ServerVersion.parse("1.1.0")


def test_release_candidates_sort_before_their_release() -> None:
    texts = ["1.2.1", "1.3.0rc2", "1.3.0rc13", "1.3.0"]

    assert sorted(texts, key=ServerVersion.parse) == texts


@given(st.text())
def test_any_text_is_a_version_or_refused(text: str) -> None:
    try:
        version = ServerVersion.parse(text)
    except VersionError:
        return
    assert ServerVersion.parse(str(version)) == version


def test_defaults_are_the_servers() -> None:
    config = engine_config(validate_arguments({}, NEW), TINY)

    assert (config.max_batch_size, config.max_num_tokens, config.tokens_per_block) == (2048, 8192, 32)
    assert config.free_gpu_memory_fraction == 0.9
    assert config.cuda_graphs is not None
    assert (config.enable_chunked_prefill, config.overlap_scheduler, config.enable_block_reuse) == (False, True, True)


def test_every_simulated_key_reaches_the_engine() -> None:
    settings: dict[str, Any] = {
        "max_batch_size": 64,
        "max_num_tokens": 4096,
        "max_seq_len": 2048,
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 2,
        "enable_chunked_prefill": True,
        "scheduler_config": {"capacity_scheduler_policy": "MAX_UTILIZATION"},
        "cuda_graph_config": {"enable_padding": True, "max_batch_size": 64},
        "disable_overlap_scheduler": True,
        "stream_interval": 5,
        "kv_cache_config": {
            "free_gpu_memory_fraction": 0.5,
            "max_tokens": 999,
            "dtype": "fp8",
            "tokens_per_block": 64,
            "enable_block_reuse": False,
        },
    }

    config = engine_config(validate_arguments(settings, NEW), TINY)

    assert (config.max_batch_size, config.max_num_tokens, config.max_seq_len) == (64, 4096, 2048)
    assert config.world_size == 4
    assert config.enable_chunked_prefill
    assert config.capacity_policy is CapacityPolicy.MAX_UTILIZATION
    assert config.cuda_graphs is not None
    assert (config.cuda_graphs.enable_padding, config.cuda_graphs.max_batch_size) == (True, 64)
    assert not config.overlap_scheduler
    assert config.stream_interval == 5
    assert (config.free_gpu_memory_fraction, config.kv_max_tokens) == (0.5, 999)
    assert config.kv_precision is Precision.FP8
    assert (config.tokens_per_block, config.enable_block_reuse) == (64, False)


def test_null_switches_graphs_off() -> None:
    assert engine_config(validate_arguments({"cuda_graph_config": None}, NEW), TINY).cuda_graphs is None


def test_null_sizes_mean_the_default() -> None:
    assert validate_arguments({"max_batch_size": None, "max_num_tokens": None}, NEW).max_batch_size == 2048


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"max_batchsize": 8}, "max_batchsize"),
        ({"kv_cache_config": {"fraction": 0.8}}, "kv_cache_config.fraction"),
        ({"scheduler_config": {"dynamic_batch_config": {"x": 1}}}, "scheduler_config.dynamic_batch_config.x"),
        ({"cuda_graph_config": {"padding": True}}, "cuda_graph_config.padding"),
    ],
)
def test_an_unknown_key_at_any_level_is_refused_in_pydantics_words(settings: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validate_arguments(settings, NEW)

    assert f"1 validation error for TorchLlmArgs\n{place}\n  Extra inputs are not permitted" in str(caught.value)


@pytest.mark.parametrize("key", ["env_overrides", "enable_energy_metrics", "telemetry_config"])
def test_a_key_of_a_later_version_is_unknown_to_an_older_one(key: str) -> None:
    values: dict[str, Any] = {"env_overrides": {}, "enable_energy_metrics": True, "telemetry_config": {}}

    validate_arguments({key: values[key]}, NEW)
    with pytest.raises(ValidationError, match=f"(?s)TorchLlmArgs.*{key}.*Extra inputs are not permitted"):
        validate_arguments({key: values[key]}, OLD)


def test_explicit_graph_sizes_must_agree_with_their_maximum() -> None:
    with pytest.raises(ValidationError, match="max_batch_size must be equal to max"):
        validate_arguments({"cuda_graph_config": {"batch_sizes": [1, 8], "max_batch_size": 16}}, NEW)


def test_keys_without_an_effect_here_are_named() -> None:
    arguments = validate_arguments({"enable_attention_dp": True, "max_batch_size": 4, "attn_backend": "TRTLLM"}, NEW)

    assert ignored_keys(arguments) == ("enable_attention_dp",)


def test_a_bytes_limit_of_the_kv_cache_becomes_a_token_limit() -> None:
    per_token = int(TINY.shape.kv_bytes_per_token(Precision.BF16))

    arguments = validate_arguments({"kv_cache_config": {"max_gpu_total_bytes": per_token * 640}}, NEW)

    assert engine_config(arguments, TINY).kv_max_tokens == 640


@pytest.mark.parametrize(("version", "winner"), [("1.2.1", 8), ("1.3.0rc16", 8), ("1.3.0rc17", 4)])
def test_precedence_between_flags_and_yaml_flipped_in_1_3(version: str, winner: int) -> None:
    merged, overridden = merge_settings(
        {"max_batch_size": 4}, {"max_batch_size": 8, "stream_interval": 2}, ServerVersion.parse(version)
    )

    assert merged == {"max_batch_size": winner, "stream_interval": 2}
    assert overridden == ("max_batch_size",)


def test_kv_settings_merge_key_by_key_and_other_objects_replace() -> None:
    command = {"kv_cache_config": {"free_gpu_memory_fraction": 0.5}}
    config = {"kv_cache_config": {"enable_block_reuse": False}, "scheduler_config": {}}

    merged, _ = merge_settings(command, config, NEW)

    assert merged["kv_cache_config"] == {"free_gpu_memory_fraction": 0.5, "enable_block_reuse": False}


def test_a_command_line_is_read_with_its_aliases() -> None:
    command = parse_command(
        ["serve", "m", "--tp_size", "2", "--free_gpu_memory_fraction", "0.7", "--config", "x.yaml"], NEW
    )

    assert command.model == "m"
    assert command.settings == {
        "tensor_parallel_size": 2,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.7},
    }
    assert command.config_path == Path("x.yaml")


def test_the_word_serve_may_be_left_out() -> None:
    assert parse_command(["m", "--port", "1"], NEW) == parse_command(["serve", "m", "--port", "1"], NEW)


@pytest.mark.parametrize(
    ("arguments", "version", "words"),
    [
        (["m", "--max_batchsize", "4"], "1.3.0rc20", "Error: No such option: --max_batchsize"),
        (["m", "--max_batch_size", "many"], "1.3.0rc20", "invalid int value"),
        (["m", "--config", "x"], "1.1.0", "Error: No such option: --config"),
        (["m", "--backend", "tensorrt"], "1.3.0rc21", "invalid choice: 'tensorrt'"),
        ([], "1.3.0rc20", "MODEL"),
    ],
)
def test_a_bad_flag_is_a_usage_error(
    arguments: list[str], version: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_command(arguments, ServerVersion.parse(version))

    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a\n- b\n", "root must be a mapping"),
        ("a: [", "yaml"),
        ("\tx: 1", "yaml"),
        ("text", "root must be a mapping"),
    ],
)
def test_an_unusable_yaml_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)

    with pytest.raises(ConfigFileError, match=words):
        read_config(path)


def test_an_empty_yaml_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing\n")

    assert read_config(path) == {}


def test_a_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"absent\.yaml"):
        read_config(tmp_path / "absent.yaml")
