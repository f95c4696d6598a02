"""GPUs of another host through dcgm-exporter's page, or the `nv_gpu_*` part of Triton's (contract gpu_telemetry 6).

One signal has several names: DCGM 4.6 renamed fields, and the exporter prints whatever its list holds. Units are mixed
on one page, differ between the two, and are made one here. The exporter collects every 30 s unless told otherwise;
`age_s` says how old a reading is.
"""

from __future__ import annotations

import math
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines._prometheus import Page, parse_page
from engines.errors import EngineError
from engines.gpu.base import NAN, GpuInfo, GpuSample
from engines.gpu.errors import GpuUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from engines._prometheus import Series

TIMEOUT_S = 5.0
MAX_PAGE_BYTES = 10_000_000
MIB = float(1 << 20)
SIMULATED_HOST = "simulated"
MOST_DIGITS = 10
"""Longer numbers are no place of a GPU."""

NOT_BY_TRITON = "no tensor and DRAM activity: Triton does not tell it"
NOT_LISTED = "no tensor and DRAM activity: the exporter's list has no PROF fields"


@dataclass(frozen=True, slots=True)
class Signal:
    """A field of the sample, names it goes by, and the factor to its unit; a field may stand in several rows."""

    field: str
    names: tuple[str, ...]
    factor: float = 1.0


SIGNALS = (
    Signal("mem_used_bytes", ("DCGM_FI_DEV_FB_USED",), MIB),
    Signal("mem_used_bytes", ("nv_gpu_memory_used_bytes",)),
    Signal(
        "power_w",
        (
            *("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_BOARD_POWER_WATTS"),
            *("DCGM_FI_DEV_POWER_USAGE_INSTANT", "DCGM_FI_DEV_BOARD_POWER_RAW_WATTS", "nv_gpu_power_usage"),
        ),
    ),
    Signal("power_limit_w", ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "DCGM_FI_DEV_POWER_MGMT_LIMIT", "nv_gpu_power_limit")),
    Signal("sm_clock_mhz", ("DCGM_FI_DEV_SM_CLOCK",)),
    Signal("max_sm_clock_mhz", ("DCGM_FI_DEV_MAX_SM_CLOCK",)),
    Signal("mem_clock_mhz", ("DCGM_FI_DEV_MEM_CLOCK",)),
    Signal("temp_c", ("DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_GPU_TEMP_CELSIUS")),
    Signal("throttle_mask", ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS")),
    Signal("energy_j", ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",), 1e-3),
    Signal("energy_j", ("nv_energy_consumption",)),
    Signal("sm_active_pct", ("DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_PROF_SM_UTIL_RATIO"), 100.0),
    Signal("tensor_active_pct", ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DCGM_FI_PROF_TENSOR_UTIL_RATIO"), 100.0),
    Signal("dram_active_pct", ("DCGM_FI_PROF_DRAM_ACTIVE", "DCGM_FI_PROF_DRAM_UTIL_RATIO"), 100.0),
    Signal("pcie_tx_bytes_s", ("DCGM_FI_PROF_PCIE_TX_BYTES",)),
    Signal("pcie_rx_bytes_s", ("DCGM_FI_PROF_PCIE_RX_BYTES",)),
    Signal("nvlink_tx_bytes_s", ("DCGM_FI_PROF_NVLINK_TX_BYTES",)),
    Signal("nvlink_rx_bytes_s", ("DCGM_FI_PROF_NVLINK_RX_BYTES",)),
)

UTIL_PCT = "DCGM_FI_DEV_GPU_UTIL"
UTIL_RATIO = "DCGM_FI_DEV_GPU_UTIL_RATIO"
BUSY_RATIOS = ("nv_gpu_utilization", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO")
"""Shares of time in which the GPU was busy, 0 to 1; with MIG they are all there is."""
PREFIXES = ("DCGM_", "nv_gpu_", "nv_energy_")
STALE_S = 90.0
"""Three of the exporter's usual collect intervals."""
MEMORY_PARTS = ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED")
MEMORY_TOTAL = "DCGM_FI_DEV_FB_TOTAL"
TRITON_MEMORY = "nv_gpu_memory_total_bytes"

Key = tuple[str, str]
"""UUID and, with MIG, the number of the instance."""

Readings = dict[str, float]


class DcgmSource:
    """The GPUs on an exporter's page, in order of host and number."""

    def __init__(self, url: str, *, of_server: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the page once.

        Args:
            url: The exporter, such as http://HOST:9400; `/metrics` is added.
            of_server: Whether the server itself serves the page: that it is away between two starts is no problem.
            clock: Monotonic seconds.

        Raises:
            GpuUnavailable: If it cannot be read or names no GPU.
        """
        self._url = url if url.rstrip("/").endswith("/metrics") else f"{url.rstrip('/')}/metrics"
        self._of_server = of_server
        self._clock = clock
        self._ratio_is_pct = False
        self._readings: dict[Key, Readings] = {}
        self._changed_s = clock()
        self._trouble = ""
        self._gone: set[Key] = set()
        infos = _gpus(self._read())
        if not infos:
            raise GpuUnavailable(f"{self._url} names no GPU; is it dcgm-exporter's page?")
        self._keys = tuple(infos)
        self._gpus = tuple(infos.values())

    @property
    def gpus(self) -> tuple[GpuInfo, ...]:
        """The GPUs, in the order of `sample`."""
        return self._gpus

    @property
    def age_s(self) -> float:
        """Seconds since the exporter's values last changed."""
        return self._clock() - self._changed_s

    def sample(self) -> tuple[GpuSample, ...]:
        """All GPUs as the exporter last collected them; NaN for one that is gone, or all when it does not answer."""
        try:
            self._read()
            self._trouble = ""
        except GpuUnavailable as error:
            self._readings = {}
            self._trouble = str(error)
        else:
            self._gone |= {key for key in self._keys if key not in self._readings}
        return tuple(self._sample(self._readings.get(key, {})) for key in self._keys)

    def attribute(self, pids: frozenset[int]) -> None:
        """Has no effect: a page does not say whose memory it is."""

    def problems(self) -> tuple[str, ...]:
        """GPUs that are no longer on the page, and a page that stands still or does not come."""
        told = [
            f"GPU {gpu.index} ({gpu.name}) is no longer on {self._url}: it fell off the bus, or is watched no more"
            for gpu, key in zip(self._gpus, self._keys, strict=True)
            if key in self._gone
        ]
        if self._trouble:
            if not self._of_server:
                told.append(self._trouble)
        elif self.age_s > STALE_S:
            told.append(
                f"{self._url} has told the same values for over {STALE_S:.0f} s: does its exporter still collect?"
            )
        return tuple(told)

    def close(self) -> None:
        """Nothing stays open."""

    def _read(self) -> Page:
        try:
            page = parse_page(_fetch(self._url), self._url)
        except EngineError as error:
            raise GpuUnavailable(str(error)) from error
        readings: dict[Key, Readings] = {}
        for key, name, value in _rows(page):
            readings.setdefault(key, {})[name] = value
        if readings != self._readings:
            self._readings = readings
            self._changed_s = self._clock()
        return page

    def _sample(self, readings: Readings) -> GpuSample:
        found: dict[str, float] = {}
        for signal in SIGNALS:
            value = next((readings[name] for name in signal.names if name in readings), NAN) * signal.factor
            if not math.isnan(value):
                found.setdefault(signal.field, value)
        return GpuSample(**found, util_pct=self._util_pct(readings))

    def _util_pct(self, readings: Readings) -> float:
        """Utilisation in percent.

        DCGM 4.6 renamed the field to a ratio without saying its scale: a value above 1 shows that it is percent, and
        stays remembered.
        """
        if UTIL_PCT in readings:
            return readings[UTIL_PCT]
        if UTIL_RATIO not in readings:
            return next((readings[name] * 100.0 for name in BUSY_RATIOS if name in readings), NAN)
        value = readings[UTIL_RATIO]
        self._ratio_is_pct = self._ratio_is_pct or value > 1.0
        return value if self._ratio_is_pct else value * 100.0


def _fetch(url: str) -> str:
    """The page's text.

    Raises:
        GpuUnavailable: If nobody answers, or with something else than a page.
    """
    if not url.startswith(("http://", "https://")):
        raise GpuUnavailable(f"dcgm-exporter's address {url!r} is not valid; write it as http://HOST:9400")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 (the scheme was checked)
            body: bytes = response.read(MAX_PAGE_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise GpuUnavailable(f"{url} answers {error.code} instead of a page") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise GpuUnavailable(f"dcgm-exporter at {url} cannot be reached: {reason}") from error
    if len(body) > MAX_PAGE_BYTES:
        raise GpuUnavailable(f"{url} answers with more than {MAX_PAGE_BYTES} bytes; is it dcgm-exporter's page?")
    return body.decode("utf-8", "replace")


def _rows(page: Page) -> Iterator[tuple[Key, str, float]]:
    """Every reading of a GPU; rows of links, switches and CPUs are other things with other labels."""
    for name, series in page.series.items():
        if not name.startswith(PREFIXES):
            continue
        for row in series:
            labels = _plain_labels(row)
            if "uuid" in labels and "nvlink" not in labels and row.value >= 0:
                yield (labels["uuid"], labels.get("gpuiid", "")), name, row.value


def _plain_labels(row: Series) -> Mapping[str, str]:
    """Labels in one spelling: `Hostname` or `hostname`, `modelName` or `model_name`, `UUID` or Triton's `gpu_uuid`."""
    labels = {name.lower().replace("_", ""): text for name, text in row.labels.items()}
    return labels if "uuid" in labels or "gpuuuid" not in labels else labels | {"uuid": labels["gpuuuid"]}


def _gpus(page: Page) -> dict[Key, GpuInfo]:
    """The GPUs on a page, by host and number."""
    labels_of: dict[Key, Mapping[str, str]] = {}
    memory: dict[Key, dict[str, float]] = {}
    for key, name, value in _rows(page):
        memory.setdefault(key, {})[name] = value
    for series in page.series.values():
        for row in series:
            labels = _plain_labels(row)
            labels_of.setdefault((labels.get("uuid", ""), labels.get("gpuiid", "")), labels)
    ordered = sorted(memory, key=lambda key: (labels_of[key].get("hostname", ""), _index(labels_of[key]), key))
    return {key: _info(place, key, labels_of[key], memory[key]) for place, key in enumerate(ordered)}


def _index(labels: Mapping[str, str]) -> int:
    text = labels.get("gpu", "")
    return int(text) if text.isdecimal() and len(text) < MOST_DIGITS else 0


def _info(place: int, key: Key, labels: Mapping[str, str], readings: Readings) -> GpuInfo:
    profile = labels.get("gpuiprofile", "")
    host = labels.get("hostname", "")
    triton = TRITON_MEMORY in readings
    parts_mib = readings.get(MEMORY_TOTAL) or sum(readings.get(part, 0.0) for part in MEMORY_PARTS)
    total_mib = readings[TRITON_MEMORY] / MIB if triton else parts_mib
    dram = next(signal for signal in SIGNALS if signal.field == "dram_active_pct")
    profiled = any(name in readings for name in dram.names)
    return GpuInfo(
        index=place,
        uuid=key[0] + (f"/{key[1]}" if key[1] else ""),
        name=labels.get("modelname", "GPU") + (f" MIG {profile}" if profile else ""),
        memory_bytes=int(total_mib * MIB),
        host=host,
        source="simulated" if host == SIMULATED_HOST else "triton" if triton else "dcgm",
        notes=() if profiled else (NOT_BY_TRITON if triton else NOT_LISTED,),
    )
