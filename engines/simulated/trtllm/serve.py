"""``trtllm-serve`` from command line to exit code (contract section 1.5)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from engines.simulated.answering import served_name
from engines.simulated.lifecycle import StopSignal, run_until_done, start_site
from engines.simulated.model import ConfigurationError, EngineConfig, OutOfGpuMemoryError, Simulation
from engines.simulated.model.memory import Component
from engines.simulated.model.startup import IMPORTS_S
from engines.simulated.pacing import PacedEngine
from engines.simulated.start import (
    FOREVER_S,
    USAGE_EXIT_CODE,
    StartError,
    arm_faults,
    banner,
    bind_or_fail,
    construct,
    pace,
    print_error,
    read_model,
    serve_until_stopped,
    start_dcgm,
)
from engines.simulated.telemetry import GpuTelemetry
from engines.simulated.trtllm.arguments import TorchLlmArgs, ignored_keys, validate_arguments
from engines.simulated.trtllm.command_line import (
    ConfigFileError,
    ServeCommand,
    merge_settings,
    parse_command,
    read_config,
)
from engines.simulated.trtllm.engine_settings import engine_config
from engines.simulated.trtllm.failure_texts import out_of_memory_text, window_too_large_text
from engines.simulated.trtllm.routes import ServedModel, TrtllmServer
from engines.simulated.trtllm.start_log import log, log_graphs, log_memory, uvicorn_log
from engines.simulated.trtllm.versions import DEFAULT_VERSION, V1_3, ServerVersion, VersionError

if TYPE_CHECKING:
    import socket
    from contextlib import AsyncExitStack
    from pathlib import Path

    from engines.models import Checkpoint
    from engines.simulated.options import SimulationOptions


def main(arguments: list[str], options: SimulationOptions) -> int:
    """Serve until a signal comes and return the exit code."""
    try:
        version = ServerVersion.parse(options.version or DEFAULT_VERSION)
    except VersionError as error:
        print_error(f"error: --sim-version: {error}")
        return USAGE_EXIT_CODE
    command = parse_command(arguments, version)
    log(banner(f"TensorRT-LLM {version}", options))
    server = _Server(command, options, version)
    return run_until_done(server.run)


class _Server:
    """One server process."""

    def __init__(self, command: ServeCommand, options: SimulationOptions, version: ServerVersion) -> None:
        self._command = command
        self._options = options
        self._version = version

    async def run(self) -> int:
        """Start, serve, stop."""
        return await serve_until_stopped(self._serve, lambda: log("Shutting down while starting"))

    async def _serve(self, stack: AsyncExitStack, stop: StopSignal) -> None:
        arguments = self._settle_arguments()
        bound = self._bind()
        stack.callback(bound.close)
        checkpoint = read_model(self._command.model)
        config = engine_config(arguments, checkpoint)
        for key in ignored_keys(arguments):
            log(f"simulated: {key} is accepted and has no effect here", level="W")
        telemetry = GpuTelemetry(self._options.gpu, config.world_size, time.monotonic())
        await start_dcgm(stack, self._options, telemetry, log)
        simulation = await self._load(stop, config, checkpoint, telemetry)

        engine = PacedEngine(simulation, self._options.speed, self._options.answer_loss)
        name = served_name(self._command.model, self._command.served_model_name)
        served = ServedModel(name, self._version, arguments, self._options.faults)
        server = TrtllmServer(served, engine, telemetry)
        pace(stack, engine)
        uvicorn_log(f"Started server process [{os.getpid()}]")
        uvicorn_log("Waiting for application startup.")
        await start_site(stack, server.application(), bound)
        uvicorn_log("Application startup complete.")
        host, port = bound.getsockname()[:2]
        uvicorn_log(f"Uvicorn running on http://{host}:{port} (Press CTRL+C to quit)")
        arm_faults(self._options, engine.freeze, server.hang)
        await stop.wait()
        uvicorn_log("Shutting down")

    def _settle_arguments(self) -> TorchLlmArgs:
        command = self._command
        if command.backend != "pytorch":
            raise StartError(f"simulated: backend {command.backend!r} is not simulated; use --backend pytorch")
        try:
            config = read_config(command.config_path)
            merged, overridden = merge_settings(command.settings, config, self._version)
            if overridden:
                log(f"Conflicting settings, one source overrides the other: {', '.join(overridden)}", level="W")
            return validate_arguments(merged, self._version)
        except (ConfigFileError, ValidationError) as error:
            text = str(error)
            kind = "pydantic_core._pydantic_core.ValidationError: " if isinstance(error, ValidationError) else ""
            raise StartError(kind + text) from error

    def _bind(self) -> socket.socket:
        command = self._command
        bound = bind_or_fail(command.host, command.port)
        if command.report_address_path is not None:
            _write_atomically(command.report_address_path, "{}:{}".format(*bound.getsockname()[:2]))
        return bound

    async def _load(
        self, stop: StopSignal, config: EngineConfig, checkpoint: Checkpoint, telemetry: GpuTelemetry
    ) -> Simulation:
        """Go through the phases of a start in scaled time, and fail where the real server would."""
        outcome = construct(config, checkpoint, self._options)
        scale = self._options.time_scale
        log(f"Using LLM with PyTorch backend, world_size {config.world_size}")
        await stop.sleep(IMPORTS_S * scale)
        if isinstance(outcome, ConfigurationError):
            raise StartError(f"RuntimeError: {outcome}\nRuntimeError: Executor worker returned error")
        log("Loading weights concurrently")
        if isinstance(outcome, OutOfGpuMemoryError):
            await stop.sleep(IMPORTS_S * scale)
            raise StartError(out_of_memory_text(outcome))
        return await self._finish_load(stop, outcome, telemetry)

    async def _finish_load(self, stop: StopSignal, simulation: Simulation, telemetry: GpuTelemetry) -> Simulation:
        plan, times, scale = simulation.plan, simulation.startup, self._options.time_scale
        faults = self._options.faults
        await stop.sleep(times.weights_s * scale)
        telemetry.set_memory(plan.weight_bytes)
        log(f"Model init total -- {times.weights_s * scale:.2f}s")
        await stop.sleep(FOREVER_S if faults.never_ready else times.estimation_s * scale)
        if faults.oom_at_start:
            free = simulation.gpu.hbm_bytes - plan.weight_bytes
            before = tuple(row for row in plan.created if row.component is not Component.KV_CACHE)
            raise StartError(
                out_of_memory_text(OutOfGpuMemoryError(Component.KV_CACHE, simulation.gpu.hbm_bytes, free, before))
            )
        self._check_window(simulation)
        telemetry.set_memory(plan.used_bytes)
        log_memory(plan, simulation.config)
        log_graphs(plan)
        await stop.sleep(times.graphs_s * scale)
        log("LLM initialized")
        return simulation

    def _check_window(self, simulation: Simulation) -> None:
        """Refuse a configured length the KV cache cannot hold; before 1.3 it is lowered with a warning instead."""
        plan = simulation.plan
        lowered_from = plan.max_seq_len_lowered_from
        configured = simulation.config.max_seq_len is not None
        if lowered_from is not None and configured and self._version >= V1_3:
            raise StartError(window_too_large_text(lowered_from, plan.kv_capacity_tokens))


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
