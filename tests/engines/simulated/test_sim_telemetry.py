"""Sensors of the pretend GPUs and their dcgm-exporter page."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engines.gpu.hardware import GPUS
from engines.simulated.dcgm import render_page
from engines.simulated.model import CudaGraphs
from engines.simulated.telemetry import GpuReading, GpuTelemetry
from tests.engines.simulated.sim_builders import llama_70b, request

H100 = GPUS["h100-sxm"]


def reading_under(prompt_tokens: int, output_tokens: int) -> GpuReading:
    """Return the sensors of a GPU that serves one kind of request all the time."""
    simulation = llama_70b(cuda_graphs=CudaGraphs(128, enable_padding=True))
    telemetry = GpuTelemetry(H100, 4, 0.0)
    telemetry.set_memory(simulation.plan.used_bytes)
    while simulation.now_ms < 4000:
        while simulation.unfinished_requests < 16:
            simulation.submit(request(prompt_tokens, max_tokens=output_tokens))
        iteration = simulation.step()
        telemetry.observe(iteration, iteration.end_ms / 1e3)
    return telemetry.read(0, simulation.now_ms / 1e3)


def test_decode_moves_memory_and_prefill_moves_tensor_cores() -> None:
    decode = reading_under(16, 500)
    prefill = reading_under(4000, 2)

    assert decode.dram_active_ratio > 0.4 > decode.tensor_active_ratio
    assert prefill.tensor_active_ratio > 0.4 > prefill.dram_active_ratio
    assert decode.utilization_ratio > 0.8
    assert prefill.utilization_ratio > 0.8


def test_idle_gpus_draw_idle_power_and_integrate_energy() -> None:
    telemetry = GpuTelemetry(H100, 1, 0.0)

    reading = telemetry.read(0, 10.0)

    assert reading.power_w == H100.idle_power_w
    assert reading.energy_j == pytest.approx(10 * H100.idle_power_w)
    assert (reading.utilization_ratio, reading.sm_clock_mhz) == (0.0, H100.sm_clock_mhz)


def test_power_never_exceeds_the_limit() -> None:
    assert reading_under(4000, 2).power_w <= H100.power_limit_w


def test_gpus_the_server_does_not_use_stay_idle() -> None:
    telemetry = GpuTelemetry(H100, 1, 0.0)
    telemetry.set_memory(5e9)

    assert telemetry.read(0, 1.0).memory_used_bytes == 5e9
    assert telemetry.read(1, 1.0).memory_used_bytes == 0


def test_the_page_parses_and_every_gpu_has_every_default_field() -> None:
    telemetry = GpuTelemetry(H100, 2, 0.0)
    telemetry.set_memory(8 * 2**30)

    page = render_page(H100, [telemetry.read(index, 1.0) for index in range(4)])

    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert len(families) == 20
    for family in families.values():
        assert [sample.labels["gpu"] for sample in family.samples] == ["0", "1", "2", "3"]
        labels = family.samples[1].labels
        assert labels["UUID"].startswith("GPU-sim-")
        assert labels["modelName"] == "NVIDIA H100 80GB HBM3"
        assert labels["hostname"] == "simulated"
    assert [sample.value for sample in families["DCGM_FI_DEV_FB_USED"].samples] == [8192, 8192, 0, 0]
    assert families["DCGM_FI_DEV_POWER_USAGE"].samples[0].value == H100.idle_power_w
