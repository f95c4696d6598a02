"""How long each part of a server's start takes before it answers (contract section 8.1, "typical time to ready")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engines.simulated.model.config import EngineConfig
    from engines.simulated.model.memory import MemoryPlan

IMPORTS_S: Final = 14.0
"""Interpreter, CUDA and model code, before anything of the model is looked at."""

_LOAD_BYTES_PER_S: Final = 2.6e9
"""Rate at which one GPU's weights are read and copied."""

_ESTIMATION_S: Final = 9.0
_ESTIMATION_S_PER_1024_TOKENS: Final = 0.5
_GRAPH_S: Final = 0.55


@dataclass(frozen=True, slots=True)
class StartupTimes:
    """Seconds of each phase of the start, in order, before any scaling.

    Attributes:
        imports_s: interpreter, CUDA and MPI workers.
        weights_s: weights from disk to GPU.
        estimation_s: dummy forward, kernel autotuning and KV allocation.
        graphs_s: CUDA graph capture.
    """

    imports_s: float
    weights_s: float
    estimation_s: float
    graphs_s: float

    @property
    def total_s(self) -> float:
        """Launch to first healthy answer."""
        return self.imports_s + self.weights_s + self.estimation_s + self.graphs_s


def startup_times(config: EngineConfig, plan: MemoryPlan) -> StartupTimes:
    """Return the start-up times of a configuration that fits."""
    return StartupTimes(
        imports_s=IMPORTS_S,
        weights_s=plan.weight_bytes / _LOAD_BYTES_PER_S,
        estimation_s=_ESTIMATION_S + config.max_num_tokens / 1024 * _ESTIMATION_S_PER_1024_TOKENS,
        graphs_s=len(plan.graph_sizes) * _GRAPH_S,
    )
