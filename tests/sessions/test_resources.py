"""What a level used: energy from counters or readings, and metrics per GPU, joule and dollar."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.columns import GPU_COLUMNS
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.resources import Resources, energy_in, with_resources

S = 1_000_000_000
RESULT = {"output_token_throughput": {"avg": 1000.0}, "total_token_throughput": {"avg": 5000.0}}


def gpu_sample(**known: float) -> list[float]:
    return [known.get(column.name, math.nan) for column in GPU_COLUMNS]


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Records GPU samples, a list of (second, numbers) by GPU."""

    def write(**gpus: list[tuple[float, dict[str, float]]]) -> Path:
        path = tmp_path / "run.trtune"
        recorder = Recorder.create(path, {})
        for name, samples in gpus.items():
            source = recorder.add_source("gpu", name, {})
            for second, known in samples:
                recorder.add_sample(source, int(second * S), gpu_sample(**known))
        recorder.close()
        return path

    return write


def test_energy_money_and_rates_follow_from_what_was_used() -> None:
    told = with_resources(RESULT, Resources(gpus=4, energy_j=20_000, window_s=10, gpu_hour_price=3.6))

    assert told["gpu_power"]["avg"] == 2000
    assert told["energy_per_output_token"]["avg"] == pytest.approx(2.0)
    assert told["output_token_throughput_per_gpu"]["avg"] == 250
    assert told["cost_per_million_output_tokens"]["avg"] == pytest.approx(4.0), "4 GPUs x 3.6 $/h x 1000 s"
    assert told["cost_per_million_total_tokens"]["avg"] == pytest.approx(0.8)
    assert told["output_token_throughput"] == RESULT["output_token_throughput"]


def test_what_is_not_known_is_left_out() -> None:
    told = with_resources(RESULT, Resources(gpus=1, energy_j=math.nan, window_s=10))

    assert "energy_per_output_token" not in told
    assert "cost_per_million_output_tokens" not in told


def test_the_energy_counter_wins_over_readings_of_power(record: Callable[..., Path]) -> None:
    counted = [(t, {"energy_j": 100.0 + 300 * t, "power_w": 999.0}) for t in range(12)]
    with SessionReader(record(gpu0=counted)) as reader:
        assert energy_in(reader, 2 * S, 8 * S, 1, 0) == pytest.approx(1800)


def test_readings_of_power_are_summed_up_where_there_is_no_counter(record: Callable[..., Path]) -> None:
    ramp = [(t, {"power_w": 100.0 * t}) for t in range(12)]
    with SessionReader(record(gpu0=ramp)) as reader:
        assert energy_in(reader, 2 * S, 8 * S, 1, 0) == pytest.approx(500 * 6, rel=0.05)


def test_the_gpus_that_draw_most_are_the_ones_in_use(record: Callable[..., Path]) -> None:
    def steady(watts: float) -> list[tuple[float, dict[str, float]]]:
        return [(t, {"power_w": watts}) for t in range(12)]

    with SessionReader(record(gpu0=steady(50), gpu1=steady(600), gpu2=steady(500))) as reader:
        assert energy_in(reader, 0, 10 * S, 2, 0) == pytest.approx(11_000, rel=0.02)
        assert math.isnan(energy_in(reader, 0, 10 * S, 4, 0)), "fewer are watched than used"


def test_no_time_takes_no_known_energy(record: Callable[..., Path]) -> None:
    with SessionReader(record(gpu0=[(t, {"power_w": 100.0}) for t in range(4)])) as reader:
        assert math.isnan(energy_in(reader, 2 * S, 2 * S, 1, 0))


def test_samples_that_do_not_span_the_window_tell_nothing(record: Callable[..., Path]) -> None:
    with SessionReader(record(gpu0=[(1, {"power_w": 100.0}), (2, {"power_w": 100.0})])) as reader:
        assert math.isnan(energy_in(reader, 0, 10 * S, 1, 0))
