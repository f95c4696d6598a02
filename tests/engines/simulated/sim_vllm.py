"""A simulated vLLM server inside the test's own event loop."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.gpu.hardware import GPUS
from engines.simulated.faults import Faults
from engines.simulated.model import Simulation
from engines.simulated.pacing import PacedEngine
from engines.simulated.telemetry import GpuTelemetry
from engines.simulated.vllm.command_line import parse_command
from engines.simulated.vllm.engine_settings import kv_budget_tokens, settle
from engines.simulated.vllm.routes import VllmServer
from tests.engines.simulated.sim_builders import TINY
from tests.engines.simulated.sim_server import Running, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def running_vllm(*arguments: str, faults: Faults | None = None) -> AsyncIterator[Running]:
    """Run a tiny server on a free loopback port."""
    command = parse_command(["serve", "tiny", "--served-model-name", "m", "--max-model-len", "512", *arguments])
    settled = settle(command, TINY, GPUS["h200"], 1)
    tokens, _ = kv_budget_tokens(command, settled, GPUS["h200"])
    simulation = Simulation(replace(settled.config, kv_max_tokens=tokens), TINY, GPUS["h200"])
    engine = PacedEngine(simulation)
    telemetry = GpuTelemetry(GPUS["h200"], 1, time.monotonic())
    server = VllmServer(command, "0.24.0", engine, telemetry, faults or Faults())
    async with serving(server.application(), engine) as running:
        yield running
