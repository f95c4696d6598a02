"""GPUs of this host through NVIDIA's management library, in tiers by cost (contract gpu_telemetry 2 and 3).

Each sample reads utilisation, memory, power, clocks and clock-event reasons: microseconds. Once a second follow limits,
temperature, the field values (3 ms, at worst 15) and GPM (3 ms); between, their last values are repeated. Methods block
and belong into one thread.
"""

from __future__ import annotations

import importlib
import socket
import time
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engines.gpu.base import NAN, GpuInfo, GpuSample
from engines.gpu.errors import GpuUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SLOW_PERIOD_S = 1.0
ALL_LINKS = 0xFFFFFFFF
KIB = 1024.0
MIB = 1024.0 * 1024.0

NOT_SUPPORTED = 3
NO_PERMISSION = 4
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
_NEVER_HERE = frozenset({NOT_SUPPORTED, NO_PERMISSION})

INIT_ERRORS = {
    4: "this user may not use the NVIDIA driver; check the permissions of /dev/nvidia*",
    9: "the NVIDIA driver is not loaded; load it or start trtune on the host with the GPUs",
    12: "there is no NVIDIA driver library; in a container give it the driver capability `utility`",
    18: "driver and driver library have different versions; the driver was updated, reboot",
}
"""NVML's error numbers at its start, in words."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity of GPM or of the field values: its number, the sample's field, and the factor to its unit."""

    number: int
    name: str
    factor: float = 1.0


GPM_METRICS = (
    Metric(2, "sm_active_pct"),
    Metric(5, "tensor_active_pct"),
    Metric(10, "dram_active_pct"),
    Metric(20, "pcie_tx_bytes_s", MIB),
    Metric(21, "pcie_rx_bytes_s", MIB),
    Metric(60, "nvlink_rx_bytes_s", MIB),
    Metric(61, "nvlink_tx_bytes_s", MIB),
)

ENERGY_FIELD = 83
COUNTER_FIELDS = (
    Metric(197, "pcie_tx_bytes_s"),
    Metric(198, "pcie_rx_bytes_s"),
    Metric(138, "nvlink_tx_bytes_s", KIB),
    Metric(139, "nvlink_rx_bytes_s", KIB),
)
"""Counters whose difference over time is the rate; used where GPM does not tell it."""

NVLINK_FIELDS = frozenset({138, 139})
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(slots=True)
class _Device:
    """What is remembered of one GPU between readings."""

    handle: Any
    refused: set[str] = field(default_factory=set)
    lost: bool = False
    slow: GpuSample = field(default_factory=GpuSample)
    slow_read_s: float = -SLOW_PERIOD_S
    counters: dict[int, tuple[float, float]] = field(default_factory=dict)
    gpm_samples: list[Any] = field(default_factory=list)
    gpm_started: bool = False


class NvmlSource:
    """The GPUs the driver shows, in the driver's order (by PCI bus, whatever CUDA_VISIBLE_DEVICES says)."""

    def __init__(self, nvml: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a module that is initialised.

        Args:
            nvml: The module `pynvml` of the package nvidia-ml-py.
            clock: Monotonic seconds.

        Raises:
            GpuUnavailable: If the driver shows no GPU.
        """
        self._nvml = nvml
        self._clock = clock
        self._missing: set[str] = set()
        self._devices = [_Device(nvml.nvmlDeviceGetHandleByIndex(i)) for i in range(nvml.nvmlDeviceGetCount())]
        if not self._devices:
            raise GpuUnavailable("the NVIDIA driver shows no GPU here")
        for device in self._devices:
            self._open_gpm(device)
        self._gpus = tuple(self._describe(index, device) for index, device in enumerate(self._devices))

    @property
    def gpus(self) -> tuple[GpuInfo, ...]:
        """The GPUs, in the order of `sample`."""
        return self._gpus

    def sample(self) -> tuple[GpuSample, ...]:
        """All GPUs now; a lost one gives NaN."""
        return tuple(self._sample(device) for device in self._devices)

    def close(self) -> None:
        """Free GPM's buffers and let go of the driver."""
        for device in self._devices:
            while device.gpm_samples:
                self._call(device, "nvmlGpmSampleFree", device.gpm_samples.pop(), own_handle=False)
        self._nvml.nvmlShutdown()

    def _describe(self, index: int, device: _Device) -> GpuInfo:
        memory = self._memory(device)
        return GpuInfo(
            index=index,
            uuid=_text(self._call(device, "nvmlDeviceGetUUID")),
            name=_text(self._call(device, "nvmlDeviceGetName")),
            memory_bytes=int(memory.total) if memory is not None else 0,
            host=socket.gethostname(),
            source="nvml",
            notes=tuple(self._notes(device)),
        )

    def _notes(self, device: _Device) -> Iterable[str]:
        if not device.gpm_samples:
            yield "no tensor and DRAM activity: the driver gives GPM on Hopper and newer only, and not everywhere"
        mode = self._call(device, "nvmlDeviceGetMigMode")
        if mode is not None and mode[0]:
            yield "MIG is on: figures are of the whole GPU, and its utilisation is not to be had"

    def _call(self, device: _Device, function: str, *arguments: Any, own_handle: bool = True) -> Any:
        """One call, or None when it cannot be had; what can never be had here is not asked for again."""
        if device.lost or function in self._missing or function in device.refused:
            return None
        try:
            called = getattr(self._nvml, function)
            return called(device.handle, *arguments) if own_handle else called(*arguments)
        except AttributeError:
            self._missing.add(function)
        except self._nvml.NVMLError as error:
            self._remember(device, function, int(error.value))
        return None

    def _remember(self, device: _Device, function: str, error: int) -> None:
        if error == FUNCTION_NOT_FOUND:
            self._missing.add(function)
        elif error in _NEVER_HERE:
            device.refused.add(function)
        elif error == GPU_IS_LOST:
            device.lost = True

    def _memory(self, device: _Device) -> Any:
        """Version 2 does not count what the driver reserves as used; old drivers have version 1 only."""
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        return self._call(device, "nvmlDeviceGetMemoryInfo", *([version] if version is not None else []))

    def _sample(self, device: _Device) -> GpuSample:
        now_s = self._clock()
        if now_s - device.slow_read_s >= SLOW_PERIOD_S:
            device.slow = self._read_slow(device, now_s)
            device.slow_read_s = now_s
        busy = self._call(device, "nvmlDeviceGetUtilizationRates")
        memory = self._memory(device)
        sample = replace(
            device.slow,
            util_pct=float(busy.gpu) if busy is not None else NAN,
            mem_used_bytes=float(memory.used) if memory is not None else NAN,
            power_w=_scaled(self._call(device, "nvmlDeviceGetPowerUsage"), 1e-3),
            sm_clock_mhz=_scaled(self._call(device, "nvmlDeviceGetClockInfo", 1)),
            mem_clock_mhz=_scaled(self._call(device, "nvmlDeviceGetClockInfo", 2)),
            throttle_mask=_scaled(
                self._first(
                    device, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
                )
            ),
        )
        return GpuSample() if device.lost else sample

    def _first(self, device: _Device, *functions: str) -> Any:
        """The newer name of a call, or the older one."""
        for function in functions:
            if (value := self._call(device, function)) is not None:
                return value
        return None

    def _read_slow(self, device: _Device, now_s: float) -> GpuSample:
        temperature = self._call(device, "nvmlDeviceGetTemperatureV", 0)
        if temperature is None:
            temperature = self._call(device, "nvmlDeviceGetTemperature", 0)
        rates = {**self._field_rates(device, now_s), **self._gpm(device)}
        energy_j = rates.pop("energy_j", NAN)
        return GpuSample(
            power_limit_w=_scaled(self._call(device, "nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
            max_sm_clock_mhz=_scaled(self._call(device, "nvmlDeviceGetMaxClockInfo", 1)),
            temp_c=_scaled(temperature),
            energy_j=energy_j,
            **rates,
        )

    def _field_rates(self, device: _Device, now_s: float) -> dict[str, float]:
        """Energy, and the rates of the counters since the last reading, from one call for all fields."""
        wanted = [
            ENERGY_FIELD,
            *((m.number, ALL_LINKS) if m.number in NVLINK_FIELDS else m.number for m in COUNTER_FIELDS),
        ]
        values = self._call(device, "nvmlDeviceGetFieldValues", wanted)
        if values is None:
            return {"energy_j": _scaled(self._call(device, "nvmlDeviceGetTotalEnergyConsumption"), 1e-3)}
        found = {int(value.fieldId): _field_value(value) for value in values}
        rates = {"energy_j": found.get(ENERGY_FIELD, NAN) * 1e-3}
        for metric in COUNTER_FIELDS:
            counter = found.get(metric.number, NAN)
            before, before_s = device.counters.get(metric.number, (NAN, NAN))
            device.counters[metric.number] = (counter, now_s)
            if now_s > before_s and counter >= before:
                rates[metric.name] = (counter - before) * metric.factor / (now_s - before_s)
        return rates

    def _open_gpm(self, device: _Device) -> None:
        """Two buffers for each GPU that has GPM: it averages between two samples."""
        support = self._call(device, "nvmlGpmQueryDeviceSupport")
        if support is None or not support.isSupportedDevice:
            return
        device.gpm_samples = [self._call(device, "nvmlGpmSampleAlloc", own_handle=False) for _ in range(2)]
        if None in device.gpm_samples:
            device.gpm_samples = []

    def _gpm(self, device: _Device) -> dict[str, float]:
        """Averages since the last reading."""
        if not device.gpm_samples:
            return {}
        before, now = device.gpm_samples
        if self._call(device, "nvmlGpmSampleGet", now) is None:
            return {}
        device.gpm_samples = [now, before]
        if not device.gpm_started:
            device.gpm_started = True
            return {}
        query = self._nvml.c_nvmlGpmMetricsGet_t()
        query.version = self._nvml.NVML_GPM_METRICS_GET_VERSION
        query.sample1, query.sample2 = before, now
        query.numMetrics = len(GPM_METRICS)
        for place, metric in enumerate(GPM_METRICS):
            query.metrics[place].metricId = metric.number
        if self._call(device, "nvmlGpmMetricsGet", query, own_handle=False) is None:
            return {}
        return {
            metric.name: float(answer.value) * metric.factor
            for metric, answer in zip(GPM_METRICS, query.metrics, strict=False)
            if answer.nvmlReturn == 0
        }


def open_nvml(load: Callable[[str], Any] = importlib.import_module) -> NvmlSource:
    """Initialise the driver library and find its GPUs.

    Args:
        load: Imports a module by name; late, since a host without a driver must still show server metrics.

    Raises:
        GpuUnavailable: With the reason in words, and what to do.
    """
    nvml = driver_library(load)
    try:
        return NvmlSource(nvml)
    except nvml.NVMLError as error:
        raise GpuUnavailable(f"the NVIDIA driver does not list its GPUs: {error}") from error


def driver_library(load: Callable[[str], Any] = importlib.import_module) -> Any:
    """The driver library as the module `pynvml`, initialised.

    Args:
        load: Imports a module by name.

    Raises:
        GpuUnavailable: With the reason in words, and what to do.
    """
    nvml = _load(load)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        reason = INIT_ERRORS.get(int(error.value), f"the NVIDIA driver does not start: {error}")
        raise GpuUnavailable(reason) from error
    return nvml


def _load(load: Callable[[str], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            # The deprecated package `pynvml` warns at import, which would spoil the screen.
            warnings.simplefilter("ignore", FutureWarning)
            nvml = load("pynvml")
    except ImportError as error:
        raise GpuUnavailable("the package nvidia-ml-py is not installed; run: pip install nvidia-ml-py") from error
    if not hasattr(nvml, "nvmlGpmSampleAlloc"):
        raise GpuUnavailable("an old package `pynvml` hides NVIDIA's; run: pip uninstall pynvml")
    return nvml


def _scaled(value: Any, factor: float = 1.0) -> float:
    return NAN if value is None else float(value) * factor


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _field_value(entry: Any) -> float:
    """The member of the union that the entry says it has; NaN when the field is not supported."""
    members: Sequence[str] = _VALUE_MEMBERS
    if entry.nvmlReturn != 0 or not 0 <= entry.valueType < len(members):
        return NAN
    return float(getattr(entry.value, members[entry.valueType]))
