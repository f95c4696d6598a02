"""``vllm serve`` from command line to exit code."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.simulated.lifecycle import StopSignal, run_until_done, start_site
from engines.simulated.model import OutOfGpuMemoryError, Simulation
from engines.simulated.model.startup import IMPORTS_S
from engines.simulated.pacing import PacedEngine
from engines.simulated.start import (
    FOREVER_S,
    arm_faults,
    banner,
    bind_or_fail,
    construct,
    pace,
    read_model,
    serve_until_stopped,
    start_dcgm,
)
from engines.simulated.telemetry import GpuTelemetry
from engines.simulated.vllm import failure_texts
from engines.simulated.vllm.command_line import ServeCommand, parse_command
from engines.simulated.vllm.engine_settings import RefusedError, Settled, kv_budget_tokens, settle
from engines.simulated.vllm.routes import VllmServer
from engines.simulated.vllm.start_log import (
    engine_log,
    log,
    log_graphs,
    log_kv_cache,
    log_settings,
    uvicorn_log,
)

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from engines.simulated.options import SimulationOptions

DEFAULT_VERSION = "0.24.0"
"""The captured version."""


def main(arguments: list[str], options: SimulationOptions) -> int:
    """Serve until a signal comes and return the exit code."""
    command = parse_command(arguments)
    version = options.version or DEFAULT_VERSION
    log(banner(f"vLLM {version}", options))
    log(f"non-default args: {command.typed}", source="api_utils.py:273")
    for name in command.ignored:
        log(f"simulated: --{name} is accepted and has no effect here", level="WARNING")
    return run_until_done(_Server(command, options, version).run)


class _Server:
    """One server process."""

    def __init__(self, command: ServeCommand, options: SimulationOptions, version: str) -> None:
        self._command = command
        self._options = options
        self._version = version

    async def run(self) -> int:
        """Start, serve, stop."""
        return await serve_until_stopped(self._serve, lambda: uvicorn_log("Shutting down while starting"))

    async def _serve(self, stack: AsyncExitStack, stop: StopSignal) -> None:
        command, options = self._command, self._options
        bound = bind_or_fail(command.host, command.port)
        stack.callback(bound.close)
        await stop.sleep(IMPORTS_S * options.time_scale)
        settled = settle(command, read_model(command.model), options.gpu, options.gpu_count)
        log(f"Using max model len {settled.max_model_len}", source="model.py:1725")
        log_settings(self._version, settled.config, command)
        telemetry = GpuTelemetry(options.gpu, settled.config.world_size, time.monotonic())
        await start_dcgm(stack, options, telemetry, log)
        simulation = await load(command, settled, options, stop, telemetry)
        engine = PacedEngine(simulation, options.speed, options.answer_loss)
        server = VllmServer(command, self._version, engine, telemetry, options.faults)
        pace(stack, engine)
        host, port = bound.getsockname()[:2]
        log(f"Starting vLLM server on http://{host}:{port}", source="api_server.py:581")
        uvicorn_log(f"Started server process [{os.getpid()}]")
        uvicorn_log("Waiting for application startup.")
        await start_site(stack, server.application(), bound)
        uvicorn_log("Application startup complete.")
        arm_faults(options, engine.freeze, server.hang)
        await stop.wait()
        uvicorn_log("Shutting down")
        uvicorn_log("Application shutdown complete.")


async def load(
    command: ServeCommand, settled: Settled, options: SimulationOptions, stop: StopSignal, telemetry: GpuTelemetry
) -> Simulation:
    """Go through the phases of the engine process's start in scaled time, and fail where the real one would.

    Raises:
        RefusedError: what was asked for does not fit.
        StopRequestedError: a signal came first.
    """
    scale, faults = options.time_scale, options.faults
    tokens, available_bytes = kv_budget_tokens(command, settled, options.gpu)
    config = replace(settled.config, kv_max_tokens=tokens)
    outcome = construct(config, settled.checkpoint, options)
    if not isinstance(outcome, Simulation):
        text = str(outcome)
        if isinstance(outcome, OutOfGpuMemoryError):
            text = failure_texts.out_of_memory(outcome.free_bytes, outcome.total_bytes)
        raise RefusedError(text, in_engine=True)
    plan, times = outcome.plan, outcome.startup
    engine_log("Loading model from scratch...", "model_runner.py:281")
    await stop.sleep(times.weights_s * scale)
    telemetry.set_memory(plan.weight_bytes)
    engine_log(
        f"Model loading took {plan.weight_bytes / (1 << 30):.1f} GiB and {times.weights_s * scale:.6f} seconds",
        "model_runner.py:302",
    )
    await stop.sleep(FOREVER_S if faults.never_ready else times.estimation_s * scale)
    if faults.oom_at_start:
        raise RefusedError(failure_texts.NO_KV_MEMORY, in_engine=True)
    telemetry.set_memory(plan.used_bytes)
    log_kv_cache(available_bytes, plan.kv_capacity_tokens, settled.max_model_len)
    await stop.sleep(times.graphs_s * scale)
    log_graphs(plan, times.graphs_s * scale)
    return outcome
