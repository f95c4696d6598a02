"""What the pretend GPUs' sensors would show, derived from the iterations that ran.

The constants were read off one H200's trace under load: 125 W idle with a model loaded, 450-520 W in memory-bound decode, and
in prefill the 700 W limit with 84 % tensor activity and the clock down a quarter. Step times do not depend on any of this.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engines.gpu.hardware import GpuSpec
    from engines.simulated.model import Iteration

WINDOW_S: Final = 1.0
"""Sensors average over this much time."""

_DRAM_POWER_SHARE: Final = 0.96
_TENSOR_POWER_SHARE: Final = 1.3
"""Part of the range from idle to limit that a fully active memory or tensor pipe would ask for."""

_ACTIVITY_PER_MFU: Final = 1.8
"""Tensor pipes count as active longer than a data sheet's peak would need: lowered clocks, stalls within an instruction."""

_BASE_C: Final = 38.0
_DEGREES_AT_LIMIT: Final = 22.0
_THERMAL_TIME_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One pretend GPU's sensors at one moment.

    Attributes:
        utilization_ratio: share of time a kernel ran.
        tensor_active_ratio: share of time the tensor pipes were active.
        dram_active_ratio: share of the memory bandwidth in use.
        memory_used_bytes: memory in use.
        power_w: board power.
        energy_j: energy since start.
        sm_clock_mhz: SM clock.
        temperature_c: core temperature.
        memory_temperature_c: memory temperature.
        nvlink_bytes: bytes to and from peers since start.
        power_throttled: whether the power limit holds the clock down.
    """

    utilization_ratio: float
    tensor_active_ratio: float
    dram_active_ratio: float
    memory_used_bytes: float
    power_w: float
    energy_j: float
    sm_clock_mhz: float
    temperature_c: float
    memory_temperature_c: float
    nvlink_bytes: float
    power_throttled: bool


@dataclass(slots=True)
class _Slice:
    end_s: float
    duration_s: float
    gpu_s: float
    tensor_s: float
    hbm_bytes: float


class GpuTelemetry:
    """Integrates iterations into sensor readings; all GPUs of the server work alike."""

    def __init__(self, gpu: GpuSpec, world_size: int, started_at_s: float) -> None:
        """Start idle.

        Args:
            gpu: type of every GPU.
            world_size: GPUs that work; the others stay idle.
            started_at_s: a steady clock's time now.
        """
        self._gpu = gpu
        self._world_size = world_size
        self._memory_used_bytes = 0.0
        self._slices: deque[_Slice] = deque()
        self._energy_j = 0.0
        self._idle_energy_j = 0.0
        self._updated_s = started_at_s
        self._temperature_c = _BASE_C
        self._nvlink_bytes = 0.0

    def set_memory(self, used_bytes: float) -> None:
        """Record how much memory the server holds on each of its GPUs."""
        self._memory_used_bytes = used_bytes

    def observe(self, iteration: Iteration, now_s: float) -> None:
        """Take an iteration that has just ended into account."""
        cost = iteration.cost
        duration_s = iteration.duration_ms / 1e3
        self._slices.append(
            _Slice(
                now_s,
                duration_s,
                min(duration_s, cost.gpu_ms / 1e3),
                min(duration_s, cost.tensor_ms / 1e3),
                cost.hbm_bytes,
            )
        )
        self._nvlink_bytes += 2 * cost.link_bytes
        if len(self._slices) % 16 == 0:
            self._advance(now_s)

    def _ratios(self, now_s: float) -> tuple[float, float, float]:
        """Return busy, tensor and DRAM shares of the last window."""
        slices = self._slices
        while slices and slices[0].end_s < now_s - WINDOW_S:
            slices.popleft()
        window_s = max(WINDOW_S, sum(piece.duration_s for piece in slices))
        busy = sum(piece.gpu_s for piece in slices) / window_s
        tensor = _ACTIVITY_PER_MFU * sum(piece.tensor_s for piece in slices) / window_s
        dram = sum(piece.hbm_bytes for piece in slices) / self._gpu.hbm_bytes_per_s / window_s
        return min(1.0, busy), min(1.0, tensor), min(1.0, dram)

    def _power(self, tensor: float, dram: float) -> tuple[float, float, bool]:
        """Return power, clock and whether the limit bites."""
        gpu = self._gpu
        range_w = gpu.power_limit_w - gpu.idle_power_w
        wanted_w = gpu.idle_power_w + range_w * (_DRAM_POWER_SHARE * dram + _TENSOR_POWER_SHARE * tensor)
        if wanted_w <= gpu.power_limit_w:
            return wanted_w, float(gpu.sm_clock_mhz), False
        return 0.99 * gpu.power_limit_w, gpu.sm_clock_mhz * gpu.power_limit_w / wanted_w, True

    def _advance(self, now_s: float) -> tuple[float, float, float, float, float, bool]:
        busy, tensor, dram = self._ratios(now_s)
        power_w, clock_mhz, throttled = self._power(tensor, dram)
        elapsed_s = max(0.0, now_s - self._updated_s)
        self._updated_s = max(now_s, self._updated_s)
        self._energy_j += power_w * elapsed_s
        self._idle_energy_j += self._gpu.idle_power_w * elapsed_s
        target_c = _BASE_C + _DEGREES_AT_LIMIT * power_w / self._gpu.power_limit_w
        self._temperature_c += (target_c - self._temperature_c) * (1 - math.exp(-elapsed_s / _THERMAL_TIME_S))
        return busy, tensor, dram, power_w, clock_mhz, throttled

    def read(self, gpu_index: int, now_s: float) -> GpuReading:
        """Return one GPU's sensors."""
        busy, tensor, dram, power_w, clock_mhz, throttled = self._advance(now_s)
        gpu = self._gpu
        if gpu_index >= self._world_size:
            return GpuReading(
                0.0, 0.0, 0.0, 0.0, gpu.idle_power_w, self._idle_energy_j, 345.0, _BASE_C, _BASE_C + 4, 0.0, False
            )
        return GpuReading(
            utilization_ratio=busy,
            tensor_active_ratio=tensor,
            dram_active_ratio=dram,
            memory_used_bytes=self._memory_used_bytes,
            power_w=power_w,
            energy_j=self._energy_j,
            sm_clock_mhz=clock_mhz,
            temperature_c=self._temperature_c,
            memory_temperature_c=self._temperature_c + 6,
            nvlink_bytes=self._nvlink_bytes,
            power_throttled=throttled,
        )

    def total_energy_j(self, now_s: float) -> float:
        """Return the energy all working GPUs used since start."""
        self._advance(now_s)
        return self._energy_j * self._world_size
