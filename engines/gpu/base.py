"""GPU samples: which quantities, in which units, and what a source of them does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

NAN = math.nan


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """What does not change about a GPU while we look.

    Attributes:
        index: Place in the source's own order.
        uuid: Identity across tools.
        name: Product name.
        memory_bytes: Total memory.
        host: Host it sits in.
        source: `nvml`, `dcgm`, `triton` or `simulated`.
        notes: Tiers that are not to be had, in words.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int
    host: str
    source: str
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Index, name and memory for a person."""
        return f"{self.index}: {self.name}, {self.memory_bytes / 2**30:.0f} GiB"


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment. NaN: not to be had (contracts: gpu_telemetry sections 2, 3 and 6).

    `server_mem_bytes` is held by the server's processes, `other_mem_bytes` by any other.
    `energy_j` is a counter since the driver's start; `throttle_mask` is NVML's clock-event bit mask.
    """

    util_pct: float = NAN
    mem_used_bytes: float = NAN
    power_w: float = NAN
    power_limit_w: float = NAN
    sm_clock_mhz: float = NAN
    max_sm_clock_mhz: float = NAN
    mem_clock_mhz: float = NAN
    temp_c: float = NAN
    throttle_mask: float = NAN
    energy_j: float = NAN
    sm_active_pct: float = NAN
    tensor_active_pct: float = NAN
    dram_active_pct: float = NAN
    pcie_tx_bytes_s: float = NAN
    pcie_rx_bytes_s: float = NAN
    nvlink_tx_bytes_s: float = NAN
    nvlink_rx_bytes_s: float = NAN
    server_mem_bytes: float = NAN
    other_mem_bytes: float = NAN


class GpuSource(Protocol):
    """A place GPU samples come from. Its methods block; they are called from one thread of their own."""

    @property
    def gpus(self) -> tuple[GpuInfo, ...]:
        """The GPUs, in the order of `sample`."""
        ...

    def sample(self) -> tuple[GpuSample, ...]:
        """All GPUs now; a lost GPU gives a sample of NaN."""
        ...

    def attribute(self, pids: frozenset[int]) -> None:
        """Say which processes are the server's, where the source can tell whose memory it is. Fit for any thread."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the GPUs or the source since the start, in words; what was said stays said."""
        ...

    def close(self) -> None:
        """Let go of the driver or the connection."""
        ...
