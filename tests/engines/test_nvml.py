"""GPUs of this host through the driver, with a module that stands in for NVIDIA's."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engines.gpu import throttle_words
from engines.gpu.errors import GpuUnavailable
from engines.gpu.nvml import NvmlSource, check_named_gpus, open_nvml

from .fake_nvml import FakeNvml, NVMLError


class OneAtATime(FakeNvml):
    """Counts the threads that are inside the driver at the same moment."""

    inside = most_inside = 0

    def _guarded(self, name: str) -> Any:
        call = super()._guarded(name)

        def counted(*arguments: Any) -> Any:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            time.sleep(0.0002)  # lets the other threads in
            try:
                return call(*arguments)
            finally:
                self.inside -= 1

        return counted


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def trace(data: Path) -> list[dict[str, float]]:
    """Readings of an H200 under load: idle at first, at its power cap at the end."""
    return [json.loads(line) for line in (data / "gpu/h200_trace.jsonl").read_text().splitlines()]


@pytest.fixture
def readings(trace: list[dict[str, float]]) -> Mapping[str, float]:
    return trace[3]


def test_a_loaded_card_reads_as_it_was_recorded(readings: Mapping[str, float]) -> None:
    clock = Clock()
    source = NvmlSource(FakeNvml(readings), clock)
    source.sample()
    clock.now_s += 1.0

    (sample,) = source.sample()

    assert (sample.util_pct, sample.mem_used_bytes, sample.temp_c) == (100, 141442285568, 58)
    assert sample.power_w == pytest.approx(692.938)
    assert sample.power_limit_w == 700
    assert (sample.sm_clock_mhz, sample.max_sm_clock_mhz, sample.mem_clock_mhz) == (1785, 1980, 3201)
    assert (sample.sm_active_pct, sample.tensor_active_pct, sample.dram_active_pct) == (90.16, 41.649, 66.695)
    assert sample.energy_j == pytest.approx(45690.035)
    assert throttle_words(sample.throttle_mask) == "power cap"


def test_what_does_not_change_is_told_once(readings: Mapping[str, float]) -> None:
    source = NvmlSource(FakeNvml(readings, count=2))

    first, second = source.gpus

    assert (first.uuid, second.uuid) == ("GPU-0", "GPU-1")
    assert (first.name, first.memory_bytes, first.source, first.notes) == ("NVIDIA H200", 150754820096, "nvml", ())


def test_cheap_readings_are_fresh_and_dear_ones_a_second_old(readings: Mapping[str, float]) -> None:
    clock, nvml = Clock(), FakeNvml(readings)
    source = NvmlSource(nvml, clock)
    source.sample()
    nvml.readings |= {"power_mw": 100_000, "temp_c": 30}
    nvml.calls.clear()

    clock.now_s += 0.5
    (soon,) = source.sample()
    cheap = set(nvml.calls)
    clock.now_s += 0.5
    (later,) = source.sample()

    assert (soon.power_w, soon.temp_c) == (100, 58)
    assert (later.power_w, later.temp_c) == (100, 30)
    assert cheap.isdisjoint({"nvmlDeviceGetFieldValues", "nvmlGpmSampleGet", "nvmlGpmMetricsGet"})


def test_rates_are_differences_of_counters(readings: Mapping[str, float]) -> None:
    clock, nvml = Clock(), FakeNvml(readings, gpm=False)
    source = NvmlSource(nvml, clock)
    (first,) = source.sample()
    nvml.counters |= {197: 5000, 138: 10}
    clock.now_s += 2.0

    (second,) = source.sample()

    assert math.isnan(first.pcie_tx_bytes_s)
    assert (second.pcie_tx_bytes_s, second.pcie_rx_bytes_s) == (2500, 0)
    assert second.nvlink_tx_bytes_s == 10 * 1024 / 2


def test_a_card_without_gpm_says_so_and_shows_the_rest(readings: Mapping[str, float]) -> None:
    source = NvmlSource(FakeNvml(readings, gpm=False))

    (sample,) = source.sample()

    assert math.isnan(sample.tensor_active_pct)
    assert sample.util_pct == 100
    assert "Hopper" in source.gpus[0].notes[0]


@pytest.mark.parametrize("error", [3, 4, 13])
@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetUtilizationRates", "util_pct"),
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetFieldValues", "pcie_tx_bytes_s"),
        ("nvmlGpmMetricsGet", "tensor_active_pct"),
    ],
)
def test_what_cannot_be_had_is_missing_and_not_asked_for_again(
    readings: Mapping[str, float], error: int, function: str, field: str
) -> None:
    clock, nvml = Clock(), FakeNvml(readings, errors={function: error})
    source = NvmlSource(nvml, clock)
    for _ in range(4):
        source.sample()
        clock.now_s += 1.0

    (sample,) = source.sample()

    assert math.isnan(getattr(sample, field))
    assert sample.sm_clock_mhz == 1785
    assert nvml.calls.count(function) == 1


def test_a_passing_error_is_asked_again(readings: Mapping[str, float]) -> None:
    nvml = FakeNvml(readings, errors={"nvmlDeviceGetPowerUsage": 999})
    source = NvmlSource(nvml)
    source.sample()
    nvml.errors.clear()

    (sample,) = source.sample()

    assert sample.power_w == pytest.approx(692.938)


def test_an_older_driver_is_read_by_older_names(readings: Mapping[str, float]) -> None:
    newer = frozenset({"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV"})
    source = NvmlSource(FakeNvml(readings, missing=newer))

    (sample,) = source.sample()

    assert (sample.throttle_mask, sample.temp_c) == (4, 58)


def test_energy_is_also_read_by_its_own_call(readings: Mapping[str, float]) -> None:
    source = NvmlSource(FakeNvml(readings, errors={"nvmlDeviceGetFieldValues": 3}))

    (sample,) = source.sample()

    assert sample.energy_j == pytest.approx(45690.035)


def test_memory_is_attributed_to_the_servers_whole_tree(readings: Mapping[str, float]) -> None:
    clock = Clock()
    nvml = FakeNvml(readings, processes=((11, 5 << 30), (12, 6 << 30), (99, 1 << 30)))
    source = NvmlSource(nvml, clock)
    (before,) = source.sample()
    source.attribute(frozenset({10, 11, 12}))
    clock.now_s += 1.0

    (sample,) = source.sample()

    assert math.isnan(before.server_mem_bytes)
    assert (sample.server_mem_bytes, sample.other_mem_bytes) == (11 << 30, 1 << 30)


def test_memory_that_is_not_told_by_process_is_not_attributed(readings: Mapping[str, float]) -> None:
    source = NvmlSource(FakeNvml(readings, processes=((11, None),)), Clock())
    source.attribute(frozenset({11}))

    (sample,) = source.sample()

    assert math.isnan(sample.server_mem_bytes)


def test_mig_instances_follow_their_gpu_with_their_own_memory_and_activity(readings: Mapping[str, float]) -> None:
    clock = Clock()
    source = NvmlSource(FakeNvml(readings, instances=2), clock)
    source.sample()
    clock.now_s += 2.0

    gpu, first, _ = source.sample()

    assert [info.uuid for info in source.gpus] == ["GPU-0", "MIG-0-0", "MIG-0-1"]
    assert "MIG is on" in source.gpus[0].notes[0]
    assert math.isnan(gpu.util_pct)
    assert (first.mem_used_bytes, first.tensor_active_pct) == (141442285568, 41.649)
    assert math.isnan(first.power_w)  # the GPU's own: adding rows up counts it once


def test_what_is_forbidden_for_the_whole_gpu_is_still_asked_of_its_mig_instances(
    readings: Mapping[str, float],
) -> None:
    forbidden = frozenset({"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses"})
    nvml = FakeNvml(readings, instances=1, only_for_instances=forbidden, processes=((11, 5 << 30),))
    source = NvmlSource(nvml, Clock())
    source.attribute(frozenset({11}))

    gpu, instance = source.sample()

    assert math.isnan(gpu.mem_used_bytes)
    assert (instance.mem_used_bytes, instance.server_mem_bytes) == (141442285568, 5 << 30)


def test_a_driver_with_the_first_memory_call_only_is_read_by_that(readings: Mapping[str, float]) -> None:
    source = NvmlSource(FakeNvml(readings, memory_v2=False), Clock())

    (sample,) = source.sample()

    assert sample.mem_used_bytes == 141442285568 + 500_000_000


def test_counters_that_only_administrators_may_read_are_said(readings: Mapping[str, float]) -> None:
    source = NvmlSource(FakeNvml(readings, errors={"nvmlGpmSampleGet": 4}))

    assert source.gpus[0].notes == (
        "no tensor and DRAM activity: only administrators may read the GPU's counters here",
    )


def test_a_card_that_falls_off_the_bus_is_told_once_and_the_others_go_on(readings: Mapping[str, float]) -> None:
    nvml = FakeNvml(readings, count=2)
    source = NvmlSource(nvml)
    before = source.problems()
    nvml.lost = {1}

    source.sample()
    nvml.calls.clear()
    well, lost = source.sample()

    assert before == ()
    assert source.problems() == (
        "GPU 1 (NVIDIA H200) fell off the bus: its figures end here; see the kernel's log for its Xid",
    )
    assert well.util_pct == 100
    assert math.isnan(lost.util_pct)
    assert nvml.calls.count("nvmlDeviceGetPowerUsage") == 1


def test_a_card_that_was_lost_before_does_not_keep_the_others_away(readings: Mapping[str, float]) -> None:
    nvml = FakeNvml(readings, count=2)
    handle = nvml.nvmlDeviceGetHandleByIndex
    nvml.lost = {0}

    source = NvmlSource(nvml)
    lost, well = source.sample()

    assert handle(1) == 1
    assert source.gpus[0].notes == ("fell off the bus before trtune looked",)
    assert (math.isnan(lost.util_pct), well.util_pct) == (True, 100)


def test_dear_readings_are_made_less_often_where_they_cost_much(readings: Mapping[str, float]) -> None:
    clock, nvml = Clock(), FakeNvml(readings, count=8)
    spent = iter(range(10_000))
    source = NvmlSource(nvml, clock, lambda: next(spent) * 0.0064)

    for _ in range(40):
        source.sample()
        clock.now_s += 0.25
    rounds = nvml.calls.count("nvmlDeviceGetFieldValues") / 8

    assert 4 < source.slow_period_s <= 5
    assert 2 <= rounds <= 4


def test_gpus_take_turns_with_dear_readings(readings: Mapping[str, float]) -> None:
    clock, nvml = Clock(), FakeNvml(readings, count=4)
    source = NvmlSource(nvml, clock, lambda: 0.0)
    source.sample()
    counts = []
    for _ in range(8):
        clock.now_s += 0.25
        nvml.calls.clear()
        source.sample()
        counts.append(nvml.calls.count("nvmlDeviceGetFieldValues"))

    assert max(counts[4:]) == 1


def test_a_lost_card_leaves_the_others(readings: Mapping[str, float]) -> None:
    nvml = FakeNvml(readings, count=2)
    source = NvmlSource(nvml)
    nvml.lost = {0}

    lost, well = source.sample()

    assert math.isnan(lost.power_w)
    assert math.isnan(lost.power_limit_w)
    assert well.util_pct == 100


def test_buffers_are_freed_and_the_driver_is_let_go(readings: Mapping[str, float]) -> None:
    nvml = FakeNvml(readings, count=2)
    source = NvmlSource(nvml)
    source.sample()

    source.close()

    assert nvml.open_samples == 0
    assert nvml.shut_down


def test_sources_in_several_threads_take_turns_at_the_driver(readings: Mapping[str, float]) -> None:
    nvml = OneAtATime(readings, count=2)

    def one_trial() -> None:
        source = NvmlSource(nvml)
        for _ in range(3):
            source.sample()
        source.close()

    with ThreadPoolExecutor(4) as threads:
        for trial in [threads.submit(one_trial) for _ in range(4)]:
            trial.result()

    assert nvml.most_inside == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [(12, "no NVIDIA driver library"), (9, "not loaded"), (4, "may not use"), (18, "reboot"), (999, "NVML error 999")],
)
def test_a_driver_that_does_not_start_is_explained(readings: Mapping[str, float], error: int, words: str) -> None:
    nvml = FakeNvml(readings, errors={"nvmlInit": error})

    with pytest.raises(GpuUnavailable, match=words):
        open_nvml(lambda _: nvml)


def test_a_driver_without_gpus_is_explained(readings: Mapping[str, float]) -> None:
    none_here = FakeNvml(readings, count=0)

    with pytest.raises(GpuUnavailable, match="shows no GPU"):
        open_nvml(lambda _: none_here)
    assert none_here.shut_down


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (("0,2",), r"names GPU 2; this host has GPUs 0 to 1"),
        (("GPU-7",), r"names GPU-7; this host has GPU-0, GPU-1"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_in_one_line(
    readings: Mapping[str, float], named: tuple[str, ...], told: str
) -> None:
    with pytest.raises(GpuUnavailable, match=rf"^CUDA_VISIBLE_DEVICES {told}$"):
        check_named_gpus(named, "CUDA_VISIBLE_DEVICES", lambda _: FakeNvml(readings, count=2))


@pytest.mark.parametrize("named", [(), ("all",), ("0, 1",), ("GPU-1",), ("MIG-1",)])
def test_gpus_that_are_there_or_cannot_be_judged_pass(readings: Mapping[str, float], named: tuple[str, ...]) -> None:
    nvml = FakeNvml(readings, count=2)

    check_named_gpus(named, "CUDA_VISIBLE_DEVICES", lambda _: nvml)
    check_named_gpus(("9",), "CUDA_VISIBLE_DEVICES", lambda _: FakeNvml(readings, errors={"nvmlInit": 12}))

    assert nvml.open_samples == 0


def test_a_missing_binding_is_explained() -> None:
    def load(name: str) -> Any:
        raise ImportError(name)

    with pytest.raises(GpuUnavailable, match="pip install nvidia-ml-py"):
        open_nvml(load)


def test_an_old_package_in_front_of_the_binding_is_explained(readings: Mapping[str, float]) -> None:
    with pytest.raises(GpuUnavailable, match="pip uninstall pynvml"):
        open_nvml(lambda _: FakeNvml(readings, missing=frozenset({"nvmlGpmSampleAlloc"})))


def test_the_double_raises_what_the_binding_raises(readings: Mapping[str, float]) -> None:
    with pytest.raises(NVMLError):
        FakeNvml(readings, errors={"nvmlInit": 9}).nvmlInit()
