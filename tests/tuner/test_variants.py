"""Variants of the model as a knob: what is searched, what is started, and what cannot fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from engines.gpu.hardware import GPUS
from engines.models import Precision, load_checkpoint, precision_from_name
from engines.trtllm import ENGINE
from tuner.plan import EnginePlan, Plan
from tuner.search.problem import Hardware, WorkloadShape
from tuner.search.search import Search
from tuner.searching import space_of
from tuner.server import Places, launch_request
from tuner.variants import CHECKPOINT, knobs_of, served

MODEL, FP8 = "meta-llama/Llama-3.3-70B-Instruct", "nvidia/Llama-3.3-70B-Instruct-FP8"
INT8, NVFP4 = "RedHatAI/Llama-3.3-70B-Instruct-quantized.w8a8", "nvidia/Llama-3.3-70B-Instruct-NVFP4"


def plan_with(**knobs: object) -> Plan:
    return Plan.model_validate({"engine": {"model": MODEL, "variants": [FP8, INT8, NVFP4]}, "knobs": knobs})


def test_the_variants_are_searched_beside_the_knobs_that_the_plan_names() -> None:
    space = space_of(plan_with(max_batch_size=(64, 256)), ENGINE)

    assert set(space.distributions) == {"max_batch_size", CHECKPOINT}
    assert space.searched_part({"max_batch_size": 64}) == {"max_batch_size": 64, CHECKPOINT: MODEL}


def test_a_variant_is_started_in_place_of_the_model_and_is_no_setting_of_the_server(tmp_path: Path) -> None:
    plan = plan_with().engine

    request = launch_request(plan, ENGINE, {CHECKPOINT: FP8, "max_batch_size": 64}, Places(tmp_path, 1), 0)

    assert request.model == FP8
    assert dict(request.params) == {"max_batch_size": 64}
    assert served(plan, {}) == (MODEL, {})


def test_without_variants_there_is_no_such_knob() -> None:
    assert CHECKPOINT not in [knob.name for knob in knobs_of(EnginePlan(model=MODEL), ENGINE)]


def test_variants_of_a_server_that_we_do_not_start_are_refused() -> None:
    with pytest.raises(ValidationError, match="variants needs model"):
        EnginePlan(model=MODEL, variants=(FP8,), launch="attach", url="http://127.0.0.1:8000")


def test_weights_and_tensor_cores_decide_which_variant_can_be_started() -> None:
    search = Search(
        knobs_of(plan_with().engine, ENGINE),
        plan_with().to_objectives()[0],
        hardware=Hardware(GPUS["h100-sxm"], 2),
        model=load_checkpoint(MODEL),
        workload=WorkloadShape(1000, 128, (32.0,)),
    )
    two = {"tensor_parallel_size": 2, "max_batch_size": 32}
    one = {"tensor_parallel_size": 1, "max_batch_size": 32}

    assert "weights of" in str(search.rejection(one)), "140 GB"
    assert search.rejection({**one, CHECKPOINT: FP8}) is None
    assert search.rejection({**two, CHECKPOINT: INT8}) is None
    assert "tensor cores" in str(search.rejection({**two, CHECKPOINT: NVFP4}))


@pytest.mark.parametrize(
    ("name", "precision"),
    [(INT8, Precision.INT8), (FP8, Precision.FP8), (NVFP4, Precision.NVFP4), ("Qwen2.5-7B-AWQ", Precision.INT4_AWQ)],
)
def test_names_tell_the_precision(name: str, precision: Precision) -> None:
    assert precision_from_name(name) is precision
