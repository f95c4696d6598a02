"""NVIDIA's curated configurations: found in a checkout or a folder, and the nearest to a wish (contract trtllm 5.9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines._recipes import Wish, gpu_names, nearest_recipes
from engines.errors import BadConfiguration
from engines.trtllm import ENGINE

MTP = """\
max_batch_size: 512
cuda_graph_config:
  enable_padding: true
  max_batch_size: 64
print_iter_log: true
kv_cache_config:
  dtype: fp8
  free_gpu_memory_fraction: 0.8
moe_config:
  backend: CUTLASS
speculative_config:
  decoding_type: MTP
  max_draft_len: 3
tensor_parallel_size: 8
enable_iter_perf_stats: true
no_such_key: 1
"""


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a listed database, a listed curated file, and a file that only its name tells of."""
    configs = tmp_path / "examples/configs"
    rows = []
    for gpu, folder, concurrency in (("H200_SXM", "H200", 8), ("H200_SXM", "H200", 64), ("B200_NVL", "B200", 64)):
        file = f"database/deepseek-ai/DeepSeek-R1-0528/{folder}/8k1k_tp8_conc{concurrency}.yaml"
        write(configs, file, MTP)
        rows.append(
            f"- model: deepseek-ai/DeepSeek-R1-0528\n  gpu: {gpu}\n  isl: 8192\n  osl: 1024\n"
            f"  concurrency: {concurrency}\n  config_path: examples/configs/{file}\n  num_gpus: 8\n"
        )
    write(configs, "database/lookup.yaml", "".join(rows))
    write(configs, "curated/llama-3.3-70b.yaml", "max_batch_size: 1024\n")
    write(
        configs,
        "curated/lookup.yaml",
        "- model: nvidia/Llama-3.3-70B-Instruct-FP8\n  config_path: examples/configs/curated/llama-3.3-70b.yaml\n"
        '  scenario: Max Throughput\n  gpu_compatibility: "Any"\n'
        "- model: x/escaping\n  config_path: ../../../etc/passwd\n",
    )
    write(configs, "database/openai/gpt-oss-120b/H200/1k1k_tp2_conc32.yaml", "max_batch_size: 32\n")
    return tmp_path


def test_a_checkout_tells_its_configurations_by_lists_and_by_names(checkout: Path) -> None:
    recipes = ENGINE.recipes(checkout)

    assert [recipe.path.name for recipe in recipes] == [
        *("8k1k_tp8_conc8.yaml", "8k1k_tp8_conc64.yaml", "8k1k_tp8_conc64.yaml"),
        *("llama-3.3-70b.yaml", "1k1k_tp2_conc32.yaml"),
    ]
    named = recipes[-1]
    assert (named.model, set(named.gpus), named.isl, named.osl) == ("gpt-oss-120b", {"H200"}, 1024, 1024)
    assert (named.concurrency, named.gpu_count) == (32, 2)


def test_the_nearest_fits_model_gpu_lengths_and_concurrency(checkout: Path) -> None:
    recipes = ENGINE.recipes(checkout)
    wish = Wish("/models/DeepSeek-R1-0528", "NVIDIA H200", 8, isl=6000, osl=1000, concurrency=48)

    near = nearest_recipes(recipes, wish)

    assert [(set(recipe.gpus), recipe.concurrency) for recipe in near] == [({"H200"}, 64), ({"H200"}, 8)]


def test_what_needs_more_gpus_or_another_model_or_gpu_does_not_fit(checkout: Path) -> None:
    recipes = ENGINE.recipes(checkout)

    assert nearest_recipes(recipes, Wish("deepseek-ai/DeepSeek-R1-0528", "NVIDIA H200", 4)) == []
    assert nearest_recipes(recipes, Wish("deepseek-ai/DeepSeek-R1-0528", "NVIDIA L40S", 8)) == []
    assert nearest_recipes(recipes, Wish("deepseek-ai/DeepSeek-V3", "NVIDIA H200", 8)) == []


def test_another_precision_of_the_model_comes_after_the_same_one(checkout: Path) -> None:
    (near,) = nearest_recipes(ENGINE.recipes(checkout), Wish("meta-llama/Llama-3.3-70B-Instruct", "NVIDIA A100"))

    assert near.label == "Max Throughput"


def test_its_settings_are_knobs_and_what_is_none_is_named(checkout: Path) -> None:
    settings, unknown = ENGINE.recipe_settings(ENGINE.recipes(checkout)[0])

    assert settings["speculative_config.decoding_type"] == "MTP"
    assert settings["kv_cache_config.dtype"] == "fp8"
    assert "enable_iter_perf_stats" not in settings
    assert unknown == ("no_such_key",)
    assert ENGINE.conflicts(settings) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("NVIDIA H200", {"H200"}),
        ("H200_SXM", {"H200"}),
        ("h100-sxm", {"H100"}),
        ("B200, GB200", {"B200", "GB200"}),
        ("NVIDIA H100 80GB HBM3", {"H100"}),
        ("NVIDIA L40S", {"L40S"}),
        ("NVIDIA GB200", {"GB200"}),
        ("Any", set()),
    ],
)
def test_gpus_have_one_short_name(text: str, names: set[str]) -> None:
    assert gpu_names(text) == names


def test_numbers_that_cannot_be_are_taken_as_not_told(checkout: Path) -> None:
    path = checkout / "examples/configs/database/lookup.yaml"
    path.write_text(
        path.read_text().replace("num_gpus: 8", "num_gpus: .inf").replace("isl: 8192", f"isl: 1{'0' * 400}")
    )

    recipe = ENGINE.recipes(checkout)[0]

    assert (recipe.gpu_count, recipe.isl, recipe.osl) == (0, 0, 1024)


def test_folders_that_hold_nothing_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="is no folder"):
        ENGINE.recipes(tmp_path / "missing")
    with pytest.raises(BadConfiguration, match="holds no configurations"):
        ENGINE.recipes(tmp_path)
    write(tmp_path, "lookup.yaml", "a: 1\n")
    with pytest.raises(BadConfiguration, match="is no list"):
        ENGINE.recipes(tmp_path)
