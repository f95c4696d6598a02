"""GPM: what a GPU's units did between two samples, Hopper and newer (contract gpu_telemetry 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.gpu._nvml_calls import NO_PERMISSION

if TYPE_CHECKING:
    from engines.gpu._nvml_calls import Board, NvmlCalls

MIB = 1024.0 * 1024.0


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity: its number, the sample's field, and the factor to its unit."""

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

NOT_HERE = "no tensor and DRAM activity: the driver gives GPM on Hopper and newer only, and not everywhere"
NOT_ALLOWED = "no tensor and DRAM activity: only administrators may read the GPU's counters here"


class Gpm:
    """Two buffers of one GPU, or of one MIG instance of it, that take turns.

    Attributes:
        problem: Why there are no readings, in words; empty when there are.
    """

    def __init__(self, calls: NvmlCalls, board: Board, instance: int | None = None) -> None:
        """Make the buffers and take a first sample: some drivers refuse only that.

        Args:
            calls: The driver.
            board: The GPU.
            instance: Number of a MIG GPU instance; None for the whole GPU.
        """
        self._calls, self._board, self._instance = calls, board, instance
        self._function = "nvmlGpmSampleGet" if instance is None else "nvmlGpmMigSampleGet"
        self._started = False
        self._samples: list[Any] = []
        self.problem = NOT_HERE
        support = calls.of(board, "nvmlGpmQueryDeviceSupport")
        if support is None or not support.isSupportedDevice:
            return
        self._samples = [calls.about(board, "nvmlGpmSampleAlloc") for _ in range(2)]
        if None in self._samples or not self._take(self._samples[0]):
            self.problem = NOT_ALLOWED if board.refused.get(self._function) == NO_PERMISSION else NOT_HERE
            self.close()
            return
        self.problem = ""

    def read(self) -> dict[str, float]:
        """Averages since the last reading, by field of the sample; empty when there are none."""
        if not self._samples:
            return {}
        before, now = self._samples
        if not self._take(now):
            return {}
        self._samples = [now, before]
        if not self._started:
            self._started = True
            return {}
        nvml = self._calls.nvml
        query = nvml.c_nvmlGpmMetricsGet_t()
        query.version = nvml.NVML_GPM_METRICS_GET_VERSION
        query.sample1, query.sample2 = before, now
        query.numMetrics = len(GPM_METRICS)
        for place, metric in enumerate(GPM_METRICS):
            query.metrics[place].metricId = metric.number
        if self._calls.about(self._board, "nvmlGpmMetricsGet", query) is None:
            return {}
        return {
            metric.name: float(answer.value) * metric.factor
            for metric, answer in zip(GPM_METRICS, query.metrics, strict=False)
            if answer.nvmlReturn == 0
        }

    def close(self) -> None:
        """Free the buffers, also those of a GPU that is lost."""
        while self._samples:
            if (sample := self._samples.pop()) is not None:
                lost, self._board.lost = self._board.lost, False
                self._calls.about(self._board, "nvmlGpmSampleFree", sample)
                self._board.lost = lost

    def _take(self, sample: Any) -> bool:
        instance = () if self._instance is None else (self._instance,)
        return self._calls.of(self._board, self._function, *instance, sample) is not None
