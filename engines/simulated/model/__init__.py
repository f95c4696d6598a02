"""A token-level model of continuous batching: deterministic, without input, output or a clock."""

from __future__ import annotations

from engines.simulated.model.config import (
    CapacityPolicy,
    ConfigurationError,
    CudaGraphs,
    EngineConfig,
    SimulationError,
)
from engines.simulated.model.iteration import Iteration
from engines.simulated.model.memory import MemoryPlan, OutOfGpuMemoryError, plan_memory
from engines.simulated.model.requests import FinishReason, GenerationRequest, RequestState, hash_blocks
from engines.simulated.model.simulation import PromptTooLongError, Simulation

__all__ = [
    "CapacityPolicy",
    "ConfigurationError",
    "CudaGraphs",
    "EngineConfig",
    "FinishReason",
    "GenerationRequest",
    "Iteration",
    "MemoryPlan",
    "OutOfGpuMemoryError",
    "PromptTooLongError",
    "RequestState",
    "Simulation",
    "SimulationError",
    "hash_blocks",
    "plan_memory",
]
