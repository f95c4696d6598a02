"""What a plan tells about hardware, model and load."""

from __future__ import annotations

import pytest

from tuner.plan import Plan
from tuner.search.known import checkpoint_of, simulated_hardware, workload_shape


def test_the_simulated_engines_flags_name_its_gpus() -> None:
    hardware = simulated_hardware(("--sim-gpu", "h200", "--sim-gpus=4", "--sim-speed", "20"))

    assert hardware is not None
    assert (hardware.gpu.name, hardware.gpu_count) == ("h200", 4)


@pytest.mark.parametrize("arguments", [(), ("--tp_size", "2"), ("--sim-gpu", "toaster"), ("--sim-gpus", "many")])
def test_what_is_not_said_or_not_known_is_not_assumed(arguments: tuple[str, ...]) -> None:
    assert simulated_hardware(arguments) is None


def test_an_unknown_model_has_no_shape() -> None:
    assert checkpoint_of("nobody/knows-this") is None
    assert checkpoint_of("meta-llama/Llama-3.1-8B-Instruct") is not None


def test_lengths_and_levels_come_from_the_plan() -> None:
    plan = Plan.model_validate(
        {
            "workload": {"isl": {"distribution": "uniform", "min": 100, "max": 300}, "osl": 64},
            "load": {"levels": [64, 8], "find": True},
        }
    )

    shape = workload_shape(plan)

    assert shape is not None
    assert (shape.input_tokens, shape.output_tokens) == (200, 64)
    assert 250 < shape.longest_prompt_tokens <= 300
    assert (shape.levels[0], shape.levels[-1]) == (8, 64)
    assert len(shape.levels) > 2


def test_an_open_load_has_no_shape() -> None:
    assert workload_shape(Plan.model_validate({"load": {"kind": "rate", "levels": [2.5]}})) is None
