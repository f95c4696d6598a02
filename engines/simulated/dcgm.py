"""A dcgm-exporter page for the pretend GPUs: default fields under their old names (gpu_telemetry.md section 6)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engines.gpu.hardware import GpuSpec
    from engines.simulated.telemetry import GpuReading, GpuTelemetry

_MIB: Final = float(1 << 20)
HOSTNAME: Final = "simulated"
"""Value of the ``hostname`` label, so that no screen can take these GPUs for real ones."""

_DRIVER_VERSION: Final = "580.00-simulated"


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: str
    text: str
    value: Callable[[GpuReading, GpuSpec], float]


_FIELDS: Final = (
    _Field("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", lambda r, _: round(r.sm_clock_mhz)),
    _Field("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", lambda _, g: g.memory_clock_mhz),
    _Field(
        "DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C).", lambda r, _: round(r.memory_temperature_c)
    ),
    _Field("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", lambda r, _: round(r.temperature_c)),
    _Field("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", lambda r, _: r.power_w),
    _Field("DCGM_FI_DEV_POWER_MGMT_LIMIT", "gauge", "Current power limit (in W).", lambda _, g: g.power_limit_w),
    _Field(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
        lambda r, _: round(r.energy_j * 1e3),
    ),
    _Field("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries.", lambda _r, _g: 0),
    _Field("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", lambda r, _: round(r.utilization_ratio * 100)),
    _Field(
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "gauge",
        "Memory utilization (in %).",
        lambda r, _: round(r.dram_active_ratio * 100),
    ),
    _Field("DCGM_FI_DEV_ENC_UTIL", "gauge", "Encoder utilization (in %).", lambda _r, _g: 0),
    _Field("DCGM_FI_DEV_DEC_UTIL", "gauge", "Decoder utilization (in %).", lambda _r, _g: 0),
    _Field("DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.", lambda _r, _g: 0),
    _Field(
        "DCGM_FI_DEV_FB_FREE",
        "gauge",
        "Framebuffer memory free (in MiB).",
        lambda r, g: round((g.hbm_bytes - r.memory_used_bytes) / _MIB),
    ),
    _Field(
        "DCGM_FI_DEV_FB_USED",
        "gauge",
        "Framebuffer memory used (in MiB).",
        lambda r, _: round(r.memory_used_bytes / _MIB),
    ),
    _Field("DCGM_FI_DEV_FB_RESERVED", "gauge", "Framebuffer memory reserved (in MiB).", lambda _r, _g: 0),
    _Field(
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
        "counter",
        "Total number of NVLink bandwidth counters for all lanes.",
        lambda r, _: round(r.nvlink_bytes),
    ),
    _Field(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "gauge",
        "Ratio of time the graphics engine is active.",
        lambda r, _: r.utilization_ratio,
    ),
    _Field(
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "gauge",
        "Ratio of cycles the tensor (HMMA) pipe is active.",
        lambda r, _: r.tensor_active_ratio,
    ),
    _Field(
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "gauge",
        "Ratio of cycles the device memory interface is active sending or receiving data.",
        lambda r, _: r.dram_active_ratio,
    ),
)


def gpu_uuid(gpu_index: int) -> str:
    """Return the pretend UUID of a GPU; its prefix says what it is."""
    return f"GPU-sim-00000000-0000-0000-0000-{gpu_index:012d}"


def _labels(gpu: GpuSpec, gpu_index: int) -> str:
    pairs = {
        "gpu": str(gpu_index),
        "UUID": gpu_uuid(gpu_index),
        "pci_bus_id": f"00000000:{gpu_index + 1:02X}:00.0",
        "device": f"nvidia{gpu_index}",
        "modelName": gpu.product_name,
        "hostname": HOSTNAME,
        "DCGM_FI_DRIVER_VERSION": _DRIVER_VERSION,
    }
    return ",".join(f'{name}="{value}"' for name, value in pairs.items())


def render_page(gpu: GpuSpec, readings: Iterable[GpuReading]) -> str:
    """Return the exporter's page for these readings, one for each GPU."""
    indexed = [(_labels(gpu, index), reading) for index, reading in enumerate(readings)]
    lines: list[str] = []
    for field in _FIELDS:
        lines.append(f"# HELP {field.name} {field.text}")
        lines.append(f"# TYPE {field.name} {field.kind}")
        lines += [f"{field.name}{{{labels}}} {_number(field.value(reading, gpu))}" for labels, reading in indexed]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}"


def make_dcgm_app(gpu: GpuSpec, gpu_count: int, telemetry: GpuTelemetry) -> web.Application:
    """Return the exporter as an application with ``/metrics`` and ``/health``."""

    async def metrics(_: web.Request) -> web.Response:
        now_s = time.monotonic()
        page = render_page(gpu, [telemetry.read(index, now_s) for index in range(gpu_count)])
        return web.Response(text=page, content_type="text/plain", charset="utf-8")

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/health", health)
    return app
