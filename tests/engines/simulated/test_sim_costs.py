"""Step times and memory: the shape of the problem a tuner has to solve."""

from __future__ import annotations

import pytest

from engines.gpu.hardware import GPUS
from engines.models import Precision, load_checkpoint
from engines.simulated.model import (
    ConfigurationError,
    CudaGraphs,
    EngineConfig,
    OutOfGpuMemoryError,
    Simulation,
    plan_memory,
)
from engines.simulated.model.memory import Component
from tests.engines.simulated.sim_builders import TINY, llama_70b, request, tiny_config

PADDED = CudaGraphs(128, enable_padding=True)


def decode_ms(simulation: Simulation, batch: int, context: int = 200) -> float:
    """Duration of a pure decode iteration of a batch."""
    for _ in range(batch):
        simulation.submit(request(context, max_tokens=64))
    while simulation.step().context_requests or simulation.kv.used_blocks == 0:
        pass
    return simulation.step().duration_ms


def test_decode_is_memory_bound_so_a_larger_batch_costs_little() -> None:
    assert decode_ms(llama_70b(cuda_graphs=PADDED), 32) < 1.5 * decode_ms(llama_70b(cuda_graphs=PADDED), 1)


def test_a_batch_between_captured_sizes_runs_eagerly_unless_padded() -> None:
    captured, eager = decode_ms(llama_70b(), 32), decode_ms(llama_70b(), 33)
    padded = decode_ms(llama_70b(cuda_graphs=PADDED), 33)

    assert eager > 1.7 * captured
    assert padded < 1.2 * captured


def test_default_graphs_stop_at_128_although_the_batch_does_not() -> None:
    trapped = decode_ms(llama_70b(cuda_graphs=CudaGraphs(enable_padding=True)), 136)
    freed = decode_ms(llama_70b(cuda_graphs=CudaGraphs(256, enable_padding=True)), 136)

    assert trapped > 1.3 * freed


def test_explicit_sizes_are_captured_and_no_other() -> None:
    graphs = CudaGraphs(batch_sizes=(4, 16))

    assert graphs.captured_sizes(2048) == (4, 16)
    assert graphs.captured_sizes(8) == (4,)


def test_generated_sizes_follow_the_servers_rules() -> None:
    assert CudaGraphs().captured_sizes(2048) == (*range(1, 33), 64, 128)
    assert CudaGraphs(enable_padding=True).captured_sizes(24) == (1, 2, 4, 8, 16, 24)


def test_more_tensor_parallel_gpus_make_decode_faster_but_not_proportionally() -> None:
    two = decode_ms(llama_70b(tensor_parallel_size=2, cuda_graphs=PADDED), 8)
    four = decode_ms(llama_70b(tensor_parallel_size=4, cuda_graphs=PADDED), 8)

    assert 0.5 * two < four < 0.8 * two


def test_prefill_time_grows_with_the_prompt() -> None:
    simulation = llama_70b()
    simulation.submit(request(1000))
    short = simulation.step().duration_ms
    simulation = llama_70b()
    simulation.submit(request(4000))

    assert 3.0 * short < simulation.step().duration_ms < 5.0 * short


def test_without_overlap_the_host_work_adds_to_every_step() -> None:
    overlapped = decode_ms(llama_70b(cuda_graphs=PADDED), 32)
    serial = decode_ms(llama_70b(cuda_graphs=PADDED, overlap_scheduler=False), 32)

    assert serial > overlapped + 1.0


def test_streaming_less_often_saves_host_time() -> None:
    each = decode_ms(llama_70b(cuda_graphs=PADDED, overlap_scheduler=False), 64)
    tenth = decode_ms(llama_70b(cuda_graphs=PADDED, overlap_scheduler=False, stream_interval=10), 64)

    assert tenth < each


def test_an_fp8_kv_cache_holds_twice_the_tokens() -> None:
    half = llama_70b().plan.kv_capacity_tokens
    full = llama_70b(kv_precision=Precision.FP8).plan.kv_capacity_tokens

    assert full == pytest.approx(2 * half, rel=0.001)


def test_a_larger_token_budget_leaves_less_for_the_kv_cache() -> None:
    small = llama_70b(max_num_tokens=2048).plan.kv_capacity_tokens

    assert llama_70b(max_num_tokens=16384).plan.kv_capacity_tokens < small


def test_kv_capacity_follows_the_memory_fraction() -> None:
    most = llama_70b(free_gpu_memory_fraction=0.9).plan.kv_capacity_tokens
    half = llama_70b(free_gpu_memory_fraction=0.45).plan.kv_capacity_tokens

    assert half == pytest.approx(most / 2, rel=0.001)


def test_weights_that_do_not_fit_name_the_model() -> None:
    with pytest.raises(OutOfGpuMemoryError) as caught:
        plan_memory(EngineConfig(), load_checkpoint("llama-3.3-70b"), GPUS["h100-sxm"], 1)

    assert caught.value.component is Component.MODEL


def test_a_fraction_that_leaves_nothing_for_the_executor_fails_after_the_kv_cache() -> None:
    config = EngineConfig(free_gpu_memory_fraction=0.99, max_seq_len=4096)

    with pytest.raises(OutOfGpuMemoryError) as caught:
        plan_memory(config, load_checkpoint("llama-3.3-70b-fp8"), GPUS["h100-sxm"], 1)

    assert caught.value.component is Component.EXTRA_RESOURCES
    assert Component.KV_CACHE in [row.component for row in caught.value.created]


def test_an_unset_length_is_lowered_to_what_the_kv_cache_holds() -> None:
    plan = plan_memory(EngineConfig(), load_checkpoint("llama-3.3-70b-fp8"), GPUS["h100-sxm"], 1)

    assert plan.max_seq_len == plan.kv_capacity_tokens < 131072
    assert plan.max_seq_len_lowered_from == 131072


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensor_parallel_size": 4}, "greater than the 2 GPUs"),
        ({"tensor_parallel_size": 3}, "must be divisible"),
        ({"pipeline_parallel_size": 8}, "greater than the 4 layers"),
    ],
)
def test_impossible_layouts_are_refused(changes: dict[str, int], words: str) -> None:
    gpu_count = 2 if words.startswith("greater than the 2") else 8

    with pytest.raises(ConfigurationError, match=words):
        plan_memory(tiny_config(**changes), TINY, GPUS["h200"], gpu_count)


def test_fp8_weights_need_fp8_tensor_cores() -> None:
    with pytest.raises(ConfigurationError, match="FP8 is not supported on SM80"):
        Simulation(EngineConfig(), load_checkpoint("llama-3.1-8b-fp8"), GPUS["a100-sxm"])


def test_single_stream_decode_of_8b_on_h200_is_near_the_measured_value() -> None:
    config = EngineConfig(max_seq_len=4096, cuda_graphs=PADDED, noise_ratio=0.0)
    simulation = Simulation(config, load_checkpoint("llama-3.1-8b"), GPUS["h200"])

    assert decode_ms(simulation, 1, 1024) == pytest.approx(4.71, rel=0.1)
