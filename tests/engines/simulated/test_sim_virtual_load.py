"""The closed loop in virtual time measures what it says."""

from __future__ import annotations

import pytest

from engines.simulated.model import CudaGraphs
from engines.simulated.model.virtual_load import VirtualLoad, percentile, run_virtual_load
from tests.engines.simulated.sim_builders import llama_70b, tiny_simulation


def test_a_single_stream_takes_ttft_plus_one_tpot_for_each_further_token() -> None:
    result = run_virtual_load(tiny_simulation(), VirtualLoad(1, 4, 50, 11))

    expected_s = 4 * (result.ttft_p50_ms + 10 * result.tpot_p50_ms) / 1e3
    assert result.duration_s == pytest.approx(expected_s, rel=0.01)
    assert result.output_tokens_per_s == pytest.approx(44 / result.duration_s)


def test_time_outside_the_engine_is_part_of_ttft() -> None:
    bare = run_virtual_load(tiny_simulation(), VirtualLoad(1, 4, 50, 11))
    wrapped = run_virtual_load(tiny_simulation(), VirtualLoad(1, 4, 50, 11, overhead_ms=7.0))

    assert wrapped.ttft_p50_ms == pytest.approx(bare.ttft_p50_ms + 7.0)


def test_warm_up_hides_the_first_wave() -> None:
    cold = run_virtual_load(llama_70b(), VirtualLoad(32, 160, 1000, 64, spread_ratio=0.3))
    warm = run_virtual_load(llama_70b(), VirtualLoad(32, 160, 1000, 64, warmup_requests=64, spread_ratio=0.3))

    assert warm.ttft_p99_ms < 0.5 * cold.ttft_p99_ms


def test_padding_the_graphs_beats_the_default_on_a_chat_like_load() -> None:
    load = VirtualLoad(48, 200, 1000, 128, warmup_requests=96, spread_ratio=0.3)
    default = run_virtual_load(llama_70b(), load)
    padded = run_virtual_load(llama_70b(cuda_graphs=CudaGraphs(128, enable_padding=True)), load)

    assert padded.output_tokens_per_s > 1.2 * default.output_tokens_per_s
    assert padded.tpot_p99_ms < 0.85 * default.tpot_p99_ms


def test_the_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
