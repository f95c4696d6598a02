"""Data sheet figures of named GPUs.

One table, read by the simulated engine and by the tuner's prior. All rates are dense (no sparsity) peaks of the
vendor's data sheets; nothing here is an efficiency or a step time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1 << 20


class UnknownGpuError(LookupError):
    """A GPU name is not in the table."""


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU model as its data sheet describes it.

    Attributes:
        name: short name used on command lines and in plans.
        product_name: name the driver reports.
        compute_capability: CUDA compute capability, major and minor.
        hbm_bytes: device memory the driver reports as total.
        hbm_bytes_per_s: peak bandwidth of that memory.
        bf16_flops_per_s: dense BF16 tensor rate.
        fp8_flops_per_s: dense FP8 tensor rate, None without FP8 tensor cores.
        fp4_flops_per_s: dense NVFP4 tensor rate, None without FP4 tensor cores.
        link_bytes_per_s: bandwidth to one peer GPU and back, both directions together (NVLink, else PCIe).
        has_nvlink: whether that link is NVLink.
        power_limit_w: default board power limit.
        idle_power_w: board power with a model loaded and nothing running.
        sm_clock_mhz: highest SM clock.
        memory_clock_mhz: memory clock the driver reports.
    """

    name: str
    product_name: str
    compute_capability: tuple[int, int]
    hbm_bytes: int
    hbm_bytes_per_s: float
    bf16_flops_per_s: float
    fp8_flops_per_s: float | None
    fp4_flops_per_s: float | None
    link_bytes_per_s: float
    has_nvlink: bool
    power_limit_w: float
    idle_power_w: float
    sm_clock_mhz: int
    memory_clock_mhz: int


_SPECS: Final = (
    GpuSpec("h100-sxm", "NVIDIA H100 80GB HBM3", (9, 0), 81559 * _MIB, 3.35e12, 989.4e12, 1978.9e12, None,
            900e9, True, 700.0, 115.0, 1980, 2619),
    GpuSpec("h100-pcie", "NVIDIA H100 PCIe", (9, 0), 81559 * _MIB, 2.0e12, 756.5e12, 1513.0e12, None,
            128e9, False, 350.0, 50.0, 1755, 1593),
    GpuSpec("h100-nvl", "NVIDIA H100 NVL", (9, 0), 95830 * _MIB, 3.9e12, 835.5e12, 1671.0e12, None,
            600e9, True, 400.0, 60.0, 1785, 2619),
    GpuSpec("h200", "NVIDIA H200", (9, 0), 143771 * _MIB, 4.8e12, 989.4e12, 1978.9e12, None,
            900e9, True, 700.0, 125.0, 1980, 3201),
    GpuSpec("b200", "NVIDIA B200", (10, 0), 183359 * _MIB, 8.0e12, 2250e12, 4500e12, 9000e12,
            1800e9, True, 1000.0, 140.0, 1965, 3996),
    GpuSpec("a100-sxm", "NVIDIA A100-SXM4-80GB", (8, 0), 81920 * _MIB, 2.039e12, 312e12, None, None,
            600e9, True, 400.0, 60.0, 1410, 1593),
    GpuSpec("a100-pcie", "NVIDIA A100 80GB PCIe", (8, 0), 81920 * _MIB, 1.935e12, 312e12, None, None,
            64e9, False, 300.0, 45.0, 1410, 1512),
    GpuSpec("l40s", "NVIDIA L40S", (8, 9), 46068 * _MIB, 0.864e12, 362.05e12, 733e12, None,
            64e9, False, 350.0, 35.0, 2520, 9001),
    GpuSpec("l4", "NVIDIA L4", (8, 9), 23034 * _MIB, 0.300e12, 121e12, 242.5e12, None,
            64e9, False, 72.0, 16.0, 2040, 6251),
)  # fmt: skip

GPUS: Final[dict[str, GpuSpec]] = {spec.name: spec for spec in _SPECS}
"""Every known GPU by short name."""


def find_gpu(name: str) -> GpuSpec:
    """Return the GPU with this short name or this driver product name.

    Args:
        name: ``h100-sxm`` or ``NVIDIA H100 80GB HBM3``; case does not matter.

    Raises:
        UnknownGpuError: no GPU of the table is called so.
    """
    wanted = name.strip().lower()
    for spec in _SPECS:
        if wanted in (spec.name, spec.product_name.lower()):
            return spec
    raise UnknownGpuError(f"unknown GPU {name!r}: known are {', '.join(sorted(GPUS))}")
