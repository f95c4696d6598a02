"""Model shapes: counting parameters and bytes, and reading them from names and folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.gpu.hardware import GPUS, UnknownGpuError, find_gpu
from engines.models import (
    KNOWN_SHAPES,
    Checkpoint,
    ModelShapeError,
    Precision,
    find_shape,
    load_checkpoint,
    shape_from_config,
)

if TYPE_CHECKING:
    from pathlib import Path

LLAMA_CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama-3.1-8b", 8.03),
        ("llama-3.3-70b", 70.6),
        ("llama-3.1-405b", 405.9),
        ("qwen3-32b", 32.8),
        ("mixtral-8x7b", 46.7),
        ("qwen3-30b-a3b", 30.5),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, billions: float) -> None:
    assert KNOWN_SHAPES[name].parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_one_token_of_mixtral_uses_two_of_eight_experts() -> None:
    shape = KNOWN_SHAPES["mixtral-8x7b"]

    assert (shape.active_linear_parameters + shape.embedding_parameters) / 1e9 == pytest.approx(12.9, rel=0.01)


def test_kv_cache_of_llama_70b_takes_320_kib_a_token_and_half_in_fp8() -> None:
    shape = KNOWN_SHAPES["llama-3.3-70b"]

    assert shape.kv_bytes_per_token(Precision.BF16) == 320 * 1024
    assert shape.kv_bytes_per_token(Precision.FP8) == 160 * 1024


def test_quantised_weights_keep_their_embeddings_in_16_bit() -> None:
    shape = KNOWN_SHAPES["llama-3.1-8b"]

    assert shape.weight_bytes(Precision.FP8) == shape.linear_parameters + 2 * shape.embedding_parameters


@pytest.mark.parametrize(
    ("name", "shape", "precision"),
    [
        ("llama-3.1-8b", "llama-3.1-8b", Precision.BF16),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b", Precision.BF16),
        ("nvidia/Llama-3.3-70B-Instruct-FP8", "llama-3.3-70b", Precision.FP8),
        ("nvidia/Qwen3-30B-A3B-FP4", "qwen3-30b-a3b", Precision.NVFP4),
        ("Qwen/Qwen3-32B-AWQ", "qwen3-32b", Precision.INT4_AWQ),
    ],
)
def test_a_model_name_tells_shape_and_precision(name: str, shape: str, precision: Precision) -> None:
    assert load_checkpoint(name) == Checkpoint(KNOWN_SHAPES[shape], precision)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelShapeError, match=r"'gpt-9'.*llama-3\.1-8b"):
        find_shape("gpt-9")


def test_a_folder_is_read_from_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_CONFIG))

    shape = load_checkpoint(str(tmp_path)).shape

    assert shape.parameters == KNOWN_SHAPES["llama-3.1-8b"].parameters
    assert shape.head_dim == 128


def test_modelopt_quantisation_of_a_folder_sets_weights_and_kv(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    quantization = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantization))

    checkpoint = load_checkpoint(str(tmp_path))

    assert (checkpoint.weight_precision, checkpoint.kv_precision) == (Precision.NVFP4, Precision.FP8)


@pytest.mark.parametrize(
    ("section", "weights", "kv"),
    [
        ({"quant_method": "mxfp4"}, Precision.INT4_AWQ, Precision.BF16),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
                "kv_cache_scheme": {"num_bits": 8, "type": "float"},
            },
            Precision.FP8,
            Precision.FP8,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            Precision.INT4_AWQ,
            Precision.BF16,
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
            Precision.NVFP4,
            Precision.FP8,
        ),
        ({"quant_method": "fbgemm_fp8"}, Precision.FP8, Precision.BF16),
    ],
)
def test_quantisation_in_the_config_is_read(
    tmp_path: Path, section: dict[str, object], weights: Precision, kv: Precision
) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({**LLAMA_CONFIG, "quantization_config": section}), encoding="utf-8"
    )

    checkpoint = load_checkpoint(str(tmp_path))

    assert (checkpoint.weight_precision, checkpoint.kv_precision) == (weights, kv)


@pytest.mark.parametrize("method", ["mixed_precision", "bitsandbytes", "compressed-tensors"])
def test_a_quantisation_that_is_not_known_is_no_guess(tmp_path: Path, method: str) -> None:
    text = json.dumps({**LLAMA_CONFIG, "quantization_config": {"quant_method": method}})
    (tmp_path / "config.json").write_text(text, encoding="utf-8")

    with pytest.raises(ModelShapeError, match=f"quantised by '{method}'"):
        load_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    "keys",
    [
        {"kv_lora_rank": 512, "n_routed_experts": 256, "num_experts_per_tok": 8},  # DeepSeek V3
        {"n_routed_experts": 128, "first_k_dense_replace": 1},  # GLM 4.5
        {"num_local_experts": 128, "interleave_moe_layer_step": 2},  # Llama 4 Maverick
        {"linear_num_value_heads": 32, "num_experts": 512},  # Qwen3-Next
        {"text_config": {"kv_lora_rank": 512}},  # Kimi K2.5
        {"layer_types": ["linear_attention", "full_attention"]},  # Qwen3.5
    ],
)
def test_models_that_would_be_counted_wrongly_are_unknown(keys: dict[str, object]) -> None:
    with pytest.raises(ModelShapeError, match="is not known to trtune"):
        shape_from_config({**LLAMA_CONFIG, **keys}, "config.json")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"hidden_size": 4096}', '{"hidden_size": "wide"}'])
def test_an_unusable_config_is_one_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(ModelShapeError, match=r"config\.json"):
        load_checkpoint(str(tmp_path))


def test_a_folder_without_config_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelShapeError, match=r"no config\.json"):
        load_checkpoint(str(tmp_path))


@given(
    st.dictionaries(
        st.sampled_from(sorted(LLAMA_CONFIG)), st.one_of(st.none(), st.integers(-3, 3), st.text(), st.floats())
    )
)
def test_a_mangled_config_is_read_or_refused_but_never_crashes(damage: dict[str, object]) -> None:
    try:
        shape = shape_from_config({**LLAMA_CONFIG, **damage}, "config.json")
    except ModelShapeError:
        return
    assert shape.parameters > 0


def test_gpus_are_found_by_short_name_and_by_driver_name() -> None:
    assert find_gpu("H100-SXM") is find_gpu("NVIDIA H100 80GB HBM3") is GPUS["h100-sxm"]


def test_an_unknown_gpu_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownGpuError, match=r"voodoo.*h200"):
        find_gpu("voodoo")
