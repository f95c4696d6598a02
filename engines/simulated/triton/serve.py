"""``tritonserver`` from command line to exit code."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from engines.simulated.lifecycle import StopSignal, run_until_done, start_site
from engines.simulated.start import (
    FOREVER_S,
    StartError,
    arm_faults,
    banner,
    bind_or_fail,
    print_error,
    serve_until_stopped,
    start_dcgm,
)
from engines.simulated.telemetry import GpuTelemetry
from engines.simulated.triton.command_line import ServeCommand, parse_command
from engines.simulated.triton.control import ControlError, ModelControl
from engines.simulated.triton.metrics import MetricsPage
from engines.simulated.triton.repository import Repository
from engines.simulated.triton.routes import MetricsFace, TritonServer

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from engines.simulated.options import SimulationOptions

DEFAULT_VERSION: Final = "2.51.0"
"""The version whose behaviour was measured."""

_SERVER_START_S: Final = 1.5
"""The server itself, without its models."""


def log(message: str, source: str = "server.cc", level: str = "I") -> None:
    """Write one line in the server's format to stderr, at once."""
    stamp = time.strftime("%m%d %H:%M:%S")
    sys.stderr.write(f"{level}{stamp}.000000 {os.getpid()} {source}:1] {message}\n")
    sys.stderr.flush()


def main(arguments: list[str], options: SimulationOptions) -> int:
    """Serve until a signal comes and return the exit code."""
    command = parse_command(arguments)
    version = options.version or DEFAULT_VERSION
    log(banner(f"Triton {version}", options))
    return run_until_done(_Server(command, options, version).run)


def _tell(error: StartError) -> None:
    log(str(error), level="E")
    print_error("error: creating server: Internal - failed to load all models")


class _Server:
    """One server process."""

    def __init__(self, command: ServeCommand, options: SimulationOptions, version: str) -> None:
        self._command = command
        self._options = options
        self._version = version

    async def run(self) -> int:
        """Start, serve, stop."""
        return await serve_until_stopped(self._serve, lambda: log("simulated: stopped while starting"), _tell)

    async def _serve(self, stack: AsyncExitStack, stop: StopSignal) -> None:
        command, options = self._command, self._options
        missing = [folder for folder in command.repositories if not folder.is_dir()]
        if missing:
            raise StartError(f"failed to stat file {missing[0]}")
        api = bind_or_fail(command.http_address, command.http_port)
        stack.callback(api.close)
        metrics = bind_or_fail(command.metrics_address, command.metrics_port)
        stack.callback(metrics.close)
        telemetry = GpuTelemetry(options.gpu, options.gpu_count, time.monotonic())
        await start_dcgm(stack, options, telemetry, log)
        control = ModelControl(
            Repository(command.repositories), options, telemetry, auto_complete=command.auto_complete_config
        )
        stack.callback(control.close)
        await stop.sleep(_SERVER_START_S * options.time_scale)
        await self._load_models(control, stop)
        server = TritonServer(self._version, control, options.faults, explicit=command.control_mode == "explicit")
        page = MetricsFace(MetricsPage(options.gpu, options.gpu_count, telemetry), control, options.faults)
        await start_site(stack, server.application(), api)
        log('"Started HTTPService at {}:{}"'.format(*api.getsockname()[:2]), "http_server.cc")
        await start_site(stack, page.application(), metrics)
        log('"Started Metrics Service at {}:{}"'.format(*metrics.getsockname()[:2]), "http_server.cc")

        def hang() -> None:
            server.hang()
            page.hang()

        arm_faults(options, control.freeze, hang)
        await stop.wait()
        if control.hangs:
            log("simulated: a load hangs, so that SIGTERM does not end this server", level="W")
            await asyncio.sleep(FOREVER_S)
        log('"All models are stopped, unloading models"')

    async def _load_models(self, control: ModelControl, stop: StopSignal) -> None:
        """Load what the control mode and ``--load-model`` ask for.

        Raises:
            StartError: a model cannot be loaded.
        """
        command, faults = self._command, self._options.faults
        repository = Repository(command.repositories)
        asked = command.load_models
        names = repository.names() if command.control_mode != "explicit" or asked == ("*",) else asked
        if faults.never_ready:
            await stop.sleep(FOREVER_S)
        if faults.oom_at_start:
            raise StartError(
                "failed to load 'tensorrt_llm' version 1: Internal: RuntimeError: Executor creation failed due to "
                "insufficient GPU memory."
            )
        for name in names:
            try:
                await control.load(name, {})
            except ControlError as error:
                raise StartError(str(error)) from error
            log(f"\"successfully loaded '{name}'\"", "model_lifecycle.cc")
