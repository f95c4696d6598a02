"""GPUs of this host through NVIDIA's management library, in tiers by cost (contract gpu_telemetry 2, 3 and 5).

Each sample reads utilisation, memory, power, clocks and clock-event reasons: microseconds. About once a second follow
limits, temperature, the field values (3 ms, at worst 15), GPM (3 ms) and processes; between, their last values are
repeated. The GPUs take turns with that, and where it costs much processor time it is done less often. With MIG on, the
instances follow their GPU, each with its own memory and activity. Methods block and belong into one thread; sources in
several threads take turns at the driver.
"""

from __future__ import annotations

import importlib
import socket
import threading
import time
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engines.gpu._nvml_calls import Board, NvmlCalls
from engines.gpu._nvml_gpm import Gpm, Metric
from engines.gpu.base import NAN, GpuInfo, GpuSample
from engines.gpu.errors import GpuUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SLOW_PERIOD_S = 1.0
SLOWEST_PERIOD_S = 5.0
SLOW_SHARE = 0.012
"""Most processor time, as a share of a core, that the slow readings of all GPUs may take: their period is stretched."""

DRIVER_LOCK = threading.RLock()
"""Held for every call of the driver library. It says that it may be used from several threads, but a process in which two sources
began to sample at the same moment ended with SIGSEGV inside libnvidia-ml 580.159 (two H100, trials side by side)."""

ALL_LINKS = 0xFFFFFFFF
KIB = 1024.0

INIT_ERRORS = {
    4: "this user may not use the NVIDIA driver; check the permissions of /dev/nvidia*",
    9: "the NVIDIA driver is not loaded; load it or start trtune on the host with the GPUs",
    12: "there is no NVIDIA driver library; in a container give it the driver capability `utility`",
    18: "driver and driver library have different versions; the driver was updated, reboot",
}
"""NVML's error numbers at its start, in words."""

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
    """One row of the samples: a GPU, or a MIG instance of one, and what is remembered of it between readings."""

    board: Board
    gpm: Gpm
    instance: Any = None
    slow: GpuSample = field(default_factory=GpuSample)
    due_s: float = 0.0
    counters: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def memory_handle(self) -> Any:
        return self.board.handle if self.instance is None else self.instance


class NvmlSource:
    """The GPUs the driver shows, in the driver's order (by PCI bus, whatever CUDA_VISIBLE_DEVICES says)."""

    def __init__(
        self,
        nvml: Any,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """Take a module that is initialised.

        Args:
            nvml: The module `pynvml` of the package nvidia-ml-py.
            clock: Monotonic seconds.
            cpu_clock: Seconds of processor time of this thread.

        Raises:
            GpuUnavailable: If the driver shows no GPU.
        """
        self._nvml = nvml
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._calls = NvmlCalls(nvml)
        self._server_pids: frozenset[int] = frozenset()
        self._slow_cost_s = 0.0
        self._devices: list[_Device] = []
        with DRIVER_LOCK:
            for index in range(nvml.nvmlDeviceGetCount()):
                self._open(index)
            if not self._devices:
                raise GpuUnavailable("the NVIDIA driver shows no GPU here")
            self._gpus = tuple(self._describe(index, device) for index, device in enumerate(self._devices))

    @property
    def gpus(self) -> tuple[GpuInfo, ...]:
        """The GPUs, in the order of `sample`."""
        return self._gpus

    @property
    def slow_period_s(self) -> float:
        """Seconds between two slow readings of a GPU, by what they cost."""
        round_s = self._slow_cost_s * len(self._devices)
        return min(max(SLOW_PERIOD_S, round_s / SLOW_SHARE), SLOWEST_PERIOD_S)

    def attribute(self, pids: frozenset[int]) -> None:
        """Say which processes are the server's: the memory they hold is told apart. Fit for any thread."""
        self._server_pids = pids

    def problems(self) -> tuple[str, ...]:
        """What befell the GPUs since the start, in words."""
        return tuple(
            f"GPU {gpu.index} ({gpu.name}) fell off the bus: its figures end here; see the kernel's log for its Xid"
            for gpu, device in zip(self._gpus, self._devices, strict=True)
            if device.board.lost
        )

    def sample(self) -> tuple[GpuSample, ...]:
        """All GPUs now; a lost one gives NaN."""
        with DRIVER_LOCK:
            now_s = self._clock()
            late = [device for device in self._devices if now_s >= device.due_s]
            for place, device in enumerate(late):
                self._refresh(device, now_s, place)
            return tuple(self._sample(device) for device in self._devices)

    def close(self) -> None:
        """Free GPM's buffers and let go of the driver."""
        with DRIVER_LOCK:
            for device in self._devices:
                device.gpm.close()
            self._nvml.nvmlShutdown()

    def _open(self, index: int) -> None:
        """Open a GPU and, with MIG on, its instances. One that is already off the bus cannot be opened, and stays as lost."""
        try:
            board = Board(self._nvml.nvmlDeviceGetHandleByIndex(index), index)
        except self._nvml.NVMLError:
            board = Board(None, index, lost=True)
        self._devices.append(_Device(board, Gpm(self._calls, board)))
        if not self._mig_is_on(board):
            return
        for place in range(int(self._calls.of(board, "nvmlDeviceGetMaxMigDeviceCount") or 0)):
            instance = self._calls.of(board, "nvmlDeviceGetMigDeviceHandleByIndex", place)
            if instance is not None:
                number = self._calls.about(board, "nvmlDeviceGetGpuInstanceId", instance)
                # What a user may not ask of the whole GPU he may still ask of an instance.
                own = Board(board.handle, index)
                self._devices.append(_Device(own, Gpm(self._calls, own, number), instance))

    def _mig_is_on(self, board: Board) -> bool:
        mode = self._calls.of(board, "nvmlDeviceGetMigMode")
        return mode is not None and bool(mode[0])

    def _describe(self, index: int, device: _Device) -> GpuInfo:
        memory = self._calls.memory(device.board, device.memory_handle)
        name = _text(self._calls.about(device.board, "nvmlDeviceGetName", device.memory_handle)) or "GPU"
        return GpuInfo(
            index=index,
            uuid=_text(self._calls.about(device.board, "nvmlDeviceGetUUID", device.memory_handle)),
            name=name if device.instance is None or "MIG" in name else f"{name} MIG",
            memory_bytes=int(memory.total) if memory is not None else 0,
            host=socket.gethostname(),
            source="nvml",
            notes=tuple(self._notes(device)),
        )

    def _notes(self, device: _Device) -> Iterable[str]:
        if device.board.lost:
            yield "fell off the bus before trtune looked"
            return
        if device.gpm.problem:
            yield device.gpm.problem
        if device.instance is not None:
            yield "a MIG instance: power, clocks and temperature are those of its GPU, in the row above"
        elif self._mig_is_on(device.board):
            yield "MIG is on: figures are of the whole GPU, and its utilisation is not to be had"

    def _refresh(self, device: _Device, now_s: float, place: int) -> None:
        """Do the slow readings of a device, and set when they are due again: those due together drift apart."""
        began_s = self._cpu_clock()
        device.slow = self._read_slow(device, now_s)
        cost_s = self._cpu_clock() - began_s
        self._slow_cost_s = cost_s if not self._slow_cost_s else 0.8 * self._slow_cost_s + 0.2 * cost_s
        period_s = self.slow_period_s
        device.due_s = now_s + period_s * (1.0 + place / len(self._devices))

    def _sample(self, device: _Device) -> GpuSample:
        board, calls = device.board, self._calls
        memory = calls.memory(board, device.memory_handle)
        used = float(memory.used) if memory is not None else NAN
        if device.instance is not None:
            return GpuSample() if board.lost else replace(device.slow, mem_used_bytes=used)
        busy = calls.of(board, "nvmlDeviceGetUtilizationRates")
        sample = replace(
            device.slow,
            util_pct=float(busy.gpu) if busy is not None else NAN,
            mem_used_bytes=used,
            power_w=_scaled(calls.of(board, "nvmlDeviceGetPowerUsage"), 1e-3),
            sm_clock_mhz=_scaled(calls.of(board, "nvmlDeviceGetClockInfo", 1)),
            mem_clock_mhz=_scaled(calls.of(board, "nvmlDeviceGetClockInfo", 2)),
            throttle_mask=_scaled(
                calls.first(
                    board, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
                )
            ),
        )
        return GpuSample() if board.lost else sample

    def _read_slow(self, device: _Device, now_s: float) -> GpuSample:
        server, others = self._memory_by_owner(device)
        if device.instance is not None:
            return GpuSample(**device.gpm.read(), server_mem_bytes=server, other_mem_bytes=others)
        board, calls = device.board, self._calls
        temperature = calls.of(board, "nvmlDeviceGetTemperatureV", 0)
        if temperature is None:
            temperature = calls.of(board, "nvmlDeviceGetTemperature", 0)
        rates = {**self._field_rates(device, now_s), **device.gpm.read()}
        energy_j = rates.pop("energy_j", NAN)
        return GpuSample(
            power_limit_w=_scaled(calls.of(board, "nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
            max_sm_clock_mhz=_scaled(calls.of(board, "nvmlDeviceGetMaxClockInfo", 1)),
            temp_c=_scaled(temperature),
            energy_j=energy_j,
            server_mem_bytes=server,
            other_mem_bytes=others,
            **rates,
        )

    def _memory_by_owner(self, device: _Device) -> tuple[float, float]:
        """Bytes held by the server's processes and by others; NaN where pids mean nothing here, as in a container.

        A server's workers hold the memory, not the process that was started: it is the whole tree that counts.
        """
        pids = self._server_pids
        if not pids:
            return NAN, NAN
        running = self._calls.about(device.board, "nvmlDeviceGetComputeRunningProcesses", device.memory_handle)
        if running is None:
            return NAN, NAN
        told = [(int(each.pid), each.usedGpuMemory) for each in running if isinstance(each.usedGpuMemory, int)]
        if len(told) < len(running):
            return NAN, NAN
        ours = float(sum(used for pid, used in told if pid in pids))
        return ours, float(sum(used for pid, used in told if pid not in pids))

    def _field_rates(self, device: _Device, now_s: float) -> dict[str, float]:
        """Energy, and the rates of the counters since the last reading, from one call for all fields."""
        wanted = [
            ENERGY_FIELD,
            *((m.number, ALL_LINKS) if m.number in NVLINK_FIELDS else m.number for m in COUNTER_FIELDS),
        ]
        values = self._calls.of(device.board, "nvmlDeviceGetFieldValues", wanted)
        if values is None:
            return {"energy_j": _scaled(self._calls.of(device.board, "nvmlDeviceGetTotalEnergyConsumption"), 1e-3)}
        found = {int(value.fieldId): _field_value(value) for value in values}
        rates = {"energy_j": found.get(ENERGY_FIELD, NAN) * 1e-3}
        for metric in COUNTER_FIELDS:
            counter = found.get(metric.number, NAN)
            before, before_s = device.counters.get(metric.number, (NAN, NAN))
            device.counters[metric.number] = (counter, now_s)
            if now_s > before_s and counter >= before:
                rates[metric.name] = (counter - before) * metric.factor / (now_s - before_s)
        return rates


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
        nvml.nvmlShutdown()
        raise GpuUnavailable(f"the NVIDIA driver does not list its GPUs: {error}") from error
    except GpuUnavailable:
        nvml.nvmlShutdown()
        raise


def check_named_gpus(named: Iterable[str], where: str, load: Callable[[str], Any] = importlib.import_module) -> None:
    """Refuse GPUs that this host does not have; where no driver can be asked, nothing is refused.

    Args:
        named: Indices, UUIDs or their beginnings, as `CUDA_VISIBLE_DEVICES` and Docker take them; `all` is none.
        where: What to name in an error.
        load: Imports a module by name.

    Raises:
        GpuUnavailable: In one line, with those there are.
    """
    wanted = [word for each in named for word in each.replace(" ", "").split(",") if word and word != "all"]
    if not wanted:
        return
    try:
        source = open_nvml(load)
    except GpuUnavailable:
        return
    gpus = [gpu for gpu in source.gpus if not gpu.uuid.startswith("MIG-")]
    source.close()
    for word in wanted:
        if word.isdecimal() and int(word) >= len(gpus):
            there = "only GPU 0" if len(gpus) == 1 else f"GPUs 0 to {len(gpus) - 1}"
            raise GpuUnavailable(f"{where} names GPU {word}; this host has {there}")
        if word.startswith("GPU-") and not any(gpu.uuid.startswith(word) for gpu in gpus):
            raise GpuUnavailable(f"{where} names {word}; this host has {', '.join(gpu.uuid for gpu in gpus)}")


def driver_library(load: Callable[[str], Any] = importlib.import_module) -> Any:
    """The driver library as the module `pynvml`, initialised.

    Args:
        load: Imports a module by name.

    Raises:
        GpuUnavailable: With the reason in words, and what to do.
    """
    nvml = _load(load)
    try:
        with DRIVER_LOCK:
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
