"""Which GPUs this host has, where they sit, and who uses them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engines.gpu.nvml import DRIVER_LOCK, driver_library

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tuner.search.problem import Hardware

PCI_DEVICES: Final = Path("/sys/bus/pci/devices")
NUMA_NODES: Final = Path("/sys/devices/system/node")

BUSY_BYTES: Final = 1 << 30
"""More memory in use than a driver and its daemons take: somebody works on that GPU."""


@dataclass(frozen=True, slots=True)
class HostGpu:
    """One GPU of this host.

    Attributes:
        uuid: Its identity, as `CUDA_VISIBLE_DEVICES` and Docker take it.
        index: Place in the driver's order.
        name: Product name.
        numa_node: NUMA node it hangs on; None where the system does not say.
        cpus: CPUs of that node; empty where the system does not say.
        used_bytes: Memory in use when it was looked at.
        pids: Processes that compute on it.
        pretend: Whether it is one of the simulated engine's, which no driver knows.
    """

    uuid: str
    index: int = 0
    name: str = ""
    numa_node: int | None = None
    cpus: frozenset[int] = frozenset()
    used_bytes: int = 0
    pids: tuple[int, ...] = ()
    pretend: bool = False

    @property
    def busy(self) -> bool:
        """Whether somebody else uses it."""
        return bool(self.pids) or self.used_bytes > BUSY_BYTES


def pretend_gpus(hardware: Hardware) -> tuple[HostGpu, ...]:
    """The simulated engine's pretend GPUs: identities that no driver knows."""
    return tuple(
        HostGpu(f"SIM-{place}", place, hardware.gpu.product_name, pretend=True) for place in range(hardware.gpu_count)
    )


def host_gpus(
    nvml: Any = None, pci: Path = PCI_DEVICES, nodes: Path = NUMA_NODES, *, wish: str | None = None
) -> tuple[HostGpu, ...]:
    """The GPUs of this host through NVIDIA's driver.

    Args:
        nvml: The module `pynvml`, initialised; None: the driver of this host.
        pci: Where the system tells on which NUMA node a device hangs.
        nodes: Where the system tells the CPUs of a NUMA node.
        wish: `CUDA_VISIBLE_DEVICES`: only those GPUs; None: all.

    Raises:
        GpuUnavailable: If the driver cannot be asked.
    """
    nvml = nvml or driver_library()
    found = []
    with DRIVER_LOCK:
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            node = _numa_node(pci, str(_text(nvml.nvmlDeviceGetPciInfo(handle).busId)))
            found.append(
                HostGpu(
                    uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                    index=index,
                    name=_text(nvml.nvmlDeviceGetName(handle)),
                    numa_node=node,
                    cpus=_cpus(nodes, node),
                    used_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).used),
                    pids=tuple(sorted(process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle))),
                )
            )
    return visible(found, wish)


def visible(gpus: Iterable[HostGpu], wish: str | None) -> tuple[HostGpu, ...]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` allows, by index or by the beginning of a UUID; all when it is not set."""
    gpus = tuple(gpus)
    if wish is None:
        return gpus
    words = [word.strip() for word in wish.split(",") if word.strip()]
    return tuple(
        gpu for word in words for gpu in gpus if word == str(gpu.index) or (len(word) > 3 and gpu.uuid.startswith(word))
    )


def parse_cpus(text: str) -> frozenset[int]:
    """A kernel's list of CPUs such as `0-3,8`."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            cpus.update(range(int(first), int(last if last.isdigit() else first) + 1))
    return frozenset(cpus)


def _numa_node(pci: Path, bus_id: str) -> int | None:
    """The driver writes `00000000:3B:00.0`, the system `0000:3b:00.0`; -1 stands for «no NUMA here»."""
    domain, _, rest = bus_id.lower().partition(":")
    with contextlib.suppress(OSError, ValueError):
        node = int((pci / f"{domain[-4:]}:{rest}" / "numa_node").read_text())
        return node if node >= 0 else None
    return None


def _cpus(nodes: Path, node: int | None) -> frozenset[int]:
    if node is None:
        return frozenset()
    try:
        return parse_cpus((nodes / f"node{node}" / "cpulist").read_text())
    except OSError:
        return frozenset()


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
