"""The prior: a hint that orders configurations as physics does."""

from __future__ import annotations

import numpy as np
import pytest

from engines.gpu.hardware import GPUS
from engines.knob import Value
from engines.models import load_checkpoint
from sessions.slo import Slo
from tuner.search.objective import Objective
from tuner.search.prior import Roofline
from tuner.search.problem import Hardware, Meaning, WorkloadShape, meaning_of
from tuner.search.settings import SettingsReader

DEFAULTS: dict[str, Value] = {
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "max_batch_size": 256,
    "max_num_tokens": 8192,
    "cuda_graph_config.max_batch_size": 256,
    "cuda_graph_config.enable_padding": True,
    "kv_cache_config.dtype": "auto",
    "checkpoint": None,
}
MOST = Objective("output_token_throughput", "avg", "maximize")


def utility(*rows: dict[str, Value], model: str = "llama-3.1-8b", objective: Objective = MOST) -> list[float]:
    checkpoint = load_checkpoint(model)
    roofline = Roofline(Hardware(GPUS["h100-sxm"], 4), checkpoint, WorkloadShape(1000, 128, (8.0, 64.0)))
    settings = SettingsReader(DEFAULTS, checkpoint).of_params(rows)
    return [float(value) for value in roofline.utility(settings, objective)]


def test_more_gpus_and_larger_batches_are_faster() -> None:
    one, two, four, small = utility({}, {"tensor_parallel_size": 2}, {"tensor_parallel_size": 4}, {"max_batch_size": 8})

    assert four > two > one > small


def test_eager_steps_and_slow_weights_cost() -> None:
    usual, eager = utility({}, {"cuda_graph_config.max_batch_size": 8}, model="llama-3.2-1b")
    whole, quantised = utility({}, {"checkpoint": "llama-3.1-8b-fp8"})

    assert eager < usual
    assert whole < quantised


def test_per_gpu_a_small_model_wants_few_of_them() -> None:
    objective = Objective("output_token_throughput_per_gpu", "avg", "maximize")

    one, four = utility({}, {"tensor_parallel_size": 4}, objective=objective)

    assert one > four


def test_an_slo_that_only_more_gpus_meet_makes_them_better() -> None:
    objective = Objective("output_token_throughput_per_gpu", "avg", "maximize", (Slo("tpot", "p99", "<=", 8.0),))

    one, four = utility({}, {"tensor_parallel_size": 4}, objective=objective)

    assert four > one


def test_the_estimates_are_of_the_right_size() -> None:
    checkpoint = load_checkpoint("llama-3.1-8b")
    roofline = Roofline(Hardware(GPUS["h200"], 1), checkpoint, WorkloadShape(1000, 128, (1.0, 64.0)))

    estimates = roofline.estimate(SettingsReader(DEFAULTS, checkpoint).of_params([{}]))

    alone_ms, loaded_ms = estimates["tpot", "avg"][0]
    assert 3 < alone_ms < 10, "16 GB of weights at 4.8 TB/s take 3.4 ms"
    assert loaded_ms > alone_ms
    assert 1000 < estimates["output_token_throughput", "avg"][0, 1] < 10_000
    assert np.all(estimates["e2e", "avg"] > estimates["ttft", "avg"])


def test_it_says_what_it_cannot_tell() -> None:
    roofline = Roofline(Hardware(GPUS["h200"], 1), load_checkpoint("llama-3.1-8b"), WorkloadShape(100, 10))

    assert roofline.covers(MOST)
    assert not roofline.covers(Objective("error_ratio", "avg", "minimize"))


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("max_num_seqs", Meaning.BATCH),
        ("--max-num-seqs", Meaning.BATCH),
        ("kv_cache_config.free_gpu_memory_fraction", Meaning.FREE_MEMORY_SHARE),
        ("flux_capacitor", None),
    ],
)
def test_servers_names_are_understood_and_strangers_are_not_guessed(name: str, meaning: Meaning | None) -> None:
    assert meaning_of(name) is meaning
