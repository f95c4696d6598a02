"""A test double of NVIDIA's module `pynvml`: recorded readings, and errors where a test wants them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

KIB_COUNTERS = (138, 139)


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class FakeNvml:
    """GPUs whose readings a test sets.

    Args:
        readings: One line of captures of an H200 (`h200_trace.jsonl`), for every GPU.
        count: Number of GPUs.
        errors: Error number that a function raises, by name.
        missing: Names of functions that this binding does not have.
        gpm: Whether the GPUs have GPM.
        instances: MIG instances of each GPU; 0: MIG is off.
        only_for_instances: Functions that this user may call for a MIG instance and not for the whole GPU.
        memory_v2: Whether the driver has the second version of the memory call.
        processes: Pid and used bytes of the processes on each GPU; None for bytes that are not told.
    """

    NVMLError = NVMLError
    nvmlMemory_v2 = 0x02000028  # noqa: N815 (NVIDIA's name)
    NVML_GPM_METRICS_GET_VERSION = 1

    def __init__(
        self,
        readings: Mapping[str, float],
        count: int = 1,
        errors: Mapping[str, int] | None = None,
        missing: frozenset[str] = frozenset(),
        gpm: bool = True,
        instances: int = 0,
        only_for_instances: frozenset[str] = frozenset(),
        memory_v2: bool = True,
        processes: tuple[tuple[int, int | None], ...] = (),
    ) -> None:
        self.readings = dict(readings)
        self.count = count
        self.errors = dict(errors or {})
        self.missing = missing
        self.gpm = gpm
        self.instances = instances
        self.only_for_instances = only_for_instances
        self.memory_v2 = memory_v2
        self.processes = processes
        self.lost: set[int] = set()
        self.calls: list[str] = []
        self.open_samples = 0
        self.counters = dict.fromkeys((197, 198, 138, 139), 0)
        self.shut_down = False

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name != "nvmlMemory_v2":
            return object.__getattribute__(self, "_guarded")(name)
        return object.__getattribute__(self, name)

    def _guarded(self, name: str) -> Any:
        if name in self.missing:
            raise AttributeError(name)
        function = object.__getattribute__(self, name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if name in self.errors:
                raise NVMLError(self.errors[name])
            if name == "nvmlDeviceGetUtilizationRates" and self.instances:
                raise NVMLError(3)
            if name in self.only_for_instances and isinstance(arguments[0], int):
                raise NVMLError(4)
            if arguments and isinstance(arguments[0], int) and arguments[0] in self.lost:
                raise NVMLError(15)
            return function(*arguments)

        return call

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None:
        self.shut_down = True

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, gpu: int | str) -> bytes:
        return (gpu if isinstance(gpu, str) else f"GPU-{gpu}").encode()

    def nvmlDeviceGetName(self, gpu: int | str) -> str:
        return "NVIDIA H200 MIG 1g.18gb" if isinstance(gpu, str) else "NVIDIA H200"

    def nvmlDeviceGetMigMode(self, gpu: int) -> list[int]:
        return [int(self.instances > 0)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: int) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: int, place: int) -> str:
        if place >= self.instances:
            raise NVMLError(6)
        return f"MIG-{gpu}-{place}"

    def nvmlDeviceGetGpuInstanceId(self, instance: str) -> int:
        return 7 + int(instance[-1])

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int | str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes]

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=self.readings["util_gpu"], memory=self.readings["util_mem"])

    def nvmlDeviceGetMemoryInfo(self, gpu: int | str, version: int | None = None) -> SimpleNamespace:
        if version == self.nvmlMemory_v2 and not self.memory_v2:
            raise NVMLError(13)
        reserved = 0 if version == self.nvmlMemory_v2 else 500_000_000
        return SimpleNamespace(total=self.readings["mem_total"], used=self.readings["mem_used"] + reserved)

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> float:
        return self.readings["power_mw"]

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: int) -> int:
        return 700_000

    def nvmlDeviceGetClockInfo(self, gpu: int, kind: int) -> float:
        return self.readings[{1: "sm_mhz", 2: "mem_mhz"}[kind]]

    def nvmlDeviceGetMaxClockInfo(self, gpu: int, kind: int) -> int:
        return 1980

    def nvmlDeviceGetTemperatureV(self, gpu: int, sensor: int) -> float:
        return self.readings["temp_c"]

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> float:
        return self.readings["temp_c"]

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: int) -> float:
        return self.readings["throttle"]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: int) -> float:
        return self.readings["throttle"]

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: int) -> float:
        return self.readings["energy_mj"]

    def nvmlDeviceGetFieldValues(self, gpu: int, fields: list[Any]) -> list[SimpleNamespace]:
        numbers = [field[0] if isinstance(field, tuple) else field for field in fields]
        values = {83: self.readings["energy_mj"], **self.counters}
        return [
            SimpleNamespace(fieldId=number, nvmlReturn=0, valueType=3, value=SimpleNamespace(ullVal=values[number]))
            for number in numbers
        ]

    def nvmlGpmQueryDeviceSupport(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(isSupportedDevice=int(self.gpm))

    def nvmlGpmSampleAlloc(self) -> SimpleNamespace:
        self.open_samples += 1
        return SimpleNamespace(taken=False)

    def nvmlGpmSampleFree(self, sample: SimpleNamespace) -> None:
        self.open_samples -= 1

    def nvmlGpmSampleGet(self, gpu: int, sample: SimpleNamespace) -> SimpleNamespace:
        sample.taken = True
        return sample

    def nvmlGpmMigSampleGet(self, gpu: int, instance: int, sample: SimpleNamespace) -> SimpleNamespace:
        if instance < 7:
            raise NVMLError(2)
        return self.nvmlGpmSampleGet(gpu, sample)

    def c_nvmlGpmMetricsGet_t(self) -> SimpleNamespace:
        return SimpleNamespace(metrics=[SimpleNamespace(nvmlReturn=0, value=0.0) for _ in range(98)])

    def nvmlGpmMetricsGet(self, query: SimpleNamespace) -> SimpleNamespace:
        if not (query.sample1.taken and query.sample2.taken):
            raise NVMLError(2)
        values = {2: self.readings["sm_util"], 5: self.readings["tensor_util"], 10: self.readings["dram_bw_util"]}
        for entry in query.metrics[: query.numMetrics]:
            entry.value = values.get(entry.metricId, 0.0)
            entry.nvmlReturn = 0 if entry.metricId in values else 3
        return query
