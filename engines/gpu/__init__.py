"""GPU telemetry: from the driver of this host (NVML), or from dcgm-exporter on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.gpu.dcgm import DcgmSource
from engines.gpu.errors import GpuUnavailable
from engines.gpu.nvml import open_nvml
from engines.gpu.throttle import is_throttled, throttle_words

if TYPE_CHECKING:
    from engines.gpu.base import GpuSource

__all__ = ["GpuUnavailable", "NoGpu", "is_throttled", "open_gpu_source", "throttle_words"]


@dataclass(frozen=True, slots=True)
class NoGpu:
    """No GPU can be watched; `reason` is one line for the panel."""

    reason: str


def open_gpu_source(dcgm_url: str | None, local: bool, *, of_server: bool = False) -> GpuSource | NoGpu:
    """The GPUs to show beside a server. Blocks; to be called in the sampler's thread.

    Without an exporter, this host's driver describes the server only when the server is here. With both, the driver
    wins where it shows the same GPUs: it is faster and has no collect interval (contract gpu_telemetry 6.5).

    Args:
        dcgm_url: Address of dcgm-exporter on the server's host, or None.
        local: Whether the server runs on this host.
        of_server: Whether the page is the server's own, which comes and goes with it.
    """
    if not dcgm_url and not local:
        return NoGpu("the server is on another host; name its dcgm-exporter to see its GPUs (http://HOST:9400)")
    try:
        if not dcgm_url:
            return open_nvml()
        exporter = DcgmSource(dcgm_url, of_server=of_server)
    except GpuUnavailable as error:
        return NoGpu(str(error))
    driver = _same_gpus(exporter) if local else None
    return driver or exporter


def _same_gpus(exporter: DcgmSource) -> GpuSource | None:
    """This host's driver, if it shows every GPU that the exporter shows."""
    try:
        driver = open_nvml()
    except GpuUnavailable:
        return None
    if {gpu.uuid for gpu in exporter.gpus} <= {gpu.uuid for gpu in driver.gpus}:
        return driver
    driver.close()
    return None
