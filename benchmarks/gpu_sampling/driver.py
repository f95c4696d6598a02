"""A stand-in for NVIDIA's module `pynvml` whose calls take as long as they were measured to take on an H200.

Times are the medians of `captures` on driver 580 (contract gpu_telemetry 2 and 3). How much of a call is processor time of
the caller and how much is waiting was not measured: both extremes can be asked for.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, Literal

Cost = Literal["spin", "sleep"]

CALL_MS = {
    "nvmlDeviceGetUtilizationRates": 0.001,
    "nvmlDeviceGetMemoryInfo": 0.005,
    "nvmlDeviceGetPowerUsage": 0.001,
    "nvmlDeviceGetComputeRunningProcesses": 0.008,
    "nvmlDeviceGetFieldValues": 3.0,
    "nvmlDeviceGetTotalEnergyConsumption": 2.8,
    "nvmlGpmSampleGet": 0.57,
    "nvmlGpmMetricsGet": 2.8,
    "nvmlDeviceGetMigMode": 0.17,
}
"""Measured medians; calls that were not measured are taken for one of the cheap ones."""

CHEAP_MS = 0.005


class NVMLError(Exception):
    """What the binding raises."""

    value = 0


class CostlyDriver:
    """Constant readings of `count` GPUs, at the price of real ones."""

    NVMLError = NVMLError
    nvmlMemory_v2 = 2  # noqa: N815 (NVIDIA's name)
    NVML_GPM_METRICS_GET_VERSION = 1

    def __init__(self, count: int, cost: Cost) -> None:
        self._count = count
        self._cost = cost
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        answer = _ANSWERS.get(name, 0)
        seconds = CALL_MS.get(name, CHEAP_MS) / 1e3

        def call(*arguments: Any) -> Any:
            self.calls += 1
            self._pay(seconds)
            return answer(*arguments) if callable(answer) else answer

        if name == "nvmlDeviceGetCount":
            return lambda: self._count
        return call

    def c_nvmlGpmMetricsGet_t(self) -> SimpleNamespace:  # noqa: N802 (NVIDIA's name)
        """The query's structure."""
        return SimpleNamespace(metrics=[SimpleNamespace(nvmlReturn=0, value=50.0) for _ in range(98)])

    def _pay(self, seconds: float) -> None:
        if self._cost == "sleep":
            time.sleep(seconds)
            return
        end_s = time.thread_time() + seconds
        while time.thread_time() < end_s:
            pass


def _field_values(_: object, numbers: list[Any]) -> list[SimpleNamespace]:
    wanted = [number[0] if isinstance(number, tuple) else number for number in numbers]
    return [SimpleNamespace(fieldId=n, nvmlReturn=0, valueType=3, value=SimpleNamespace(ullVal=1000)) for n in wanted]


_ANSWERS: dict[str, Any] = {
    "nvmlDeviceGetHandleByIndex": lambda index: index,
    "nvmlDeviceGetUUID": lambda gpu: f"GPU-{gpu}",
    "nvmlDeviceGetName": "NVIDIA H200",
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=100, memory=60),
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=150_754_820_096, used=141_442_285_568),
    "nvmlDeviceGetPowerUsage": 690_000,
    "nvmlDeviceGetClockInfo": 1785,
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetTemperatureV": 58,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetCurrentClocksEventReasons": 4,
    "nvmlDeviceGetFieldValues": _field_values,
    "nvmlDeviceGetComputeRunningProcesses": lambda _: [
        SimpleNamespace(pid=pid, usedGpuMemory=1 << 30) for pid in (101, 102)
    ],
    "nvmlGpmQueryDeviceSupport": SimpleNamespace(isSupportedDevice=1),
    "nvmlGpmSampleAlloc": lambda: SimpleNamespace(),
    "nvmlGpmSampleGet": lambda _gpu, sample: sample,
    "nvmlGpmMetricsGet": lambda query: query,
}
