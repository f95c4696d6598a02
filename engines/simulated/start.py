"""Steps of a start that every dialect takes: sockets, the model folder, the engine, the faults that come later."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from engines.models import Checkpoint, ModelShapeError, load_checkpoint
from engines.simulated.dcgm import make_dcgm_app
from engines.simulated.lifecycle import StopRequestedError, StopSignal, bind, start_site
from engines.simulated.model import ConfigurationError, EngineConfig, OutOfGpuMemoryError, Simulation

if TYPE_CHECKING:
    import socket

    from engines.simulated.options import SimulationOptions
    from engines.simulated.pacing import PacedEngine
    from engines.simulated.telemetry import GpuTelemetry

FAILED_EXIT_CODE: Final = 1
USAGE_EXIT_CODE: Final = 2
FOREVER_S: Final = 1e9
"""How long a start that is never ready lasts."""


class StartError(Exception):
    """The start failed; the message is what the server prints."""

    def tell(self) -> None:
        """Print it as the server does."""
        print_error(str(self))


Serve = Callable[[AsyncExitStack, StopSignal], Awaitable[None]]
"""A dialect's way from its arguments to a served port, until a signal comes; the stack's end takes it down."""


async def serve_until_stopped(
    serve: Serve, stopped: Callable[[], None], tell: Callable[[StartError], None] = StartError.tell
) -> int:
    """Start, serve, stop, as every dialect does; returns the exit code.

    Args:
        serve: the dialect.
        stopped: called when a signal came while the server was starting.
        tell: prints why a start failed.
    """
    stop = StopSignal()
    try:
        async with AsyncExitStack() as stack:
            await serve(stack, stop)
    except StartError as error:
        tell(error)
        return FAILED_EXIT_CODE
    except StopRequestedError:
        stopped()
    return 0


def banner(title: str, options: SimulationOptions) -> str:
    """The first line of every log: what is imitated, and that it is not real."""
    return (
        f"simulated: {title} on {options.gpu_count} x {options.gpu.product_name}; "
        "every figure of this server is simulated by trtune"
    )


def pace(stack: AsyncExitStack, engine: PacedEngine) -> None:
    """Let the engine's time run until the stack's end."""
    pacing = asyncio.create_task(engine.run(), name="pacing")
    stack.callback(pacing.cancel)


def print_error(text: str) -> None:
    """Print to stderr at once, as a dying server does."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # this text is the program's answer


def bind_failure_text(host: str, port: int, reason: str) -> str:
    """Return the text of a port that cannot be bound."""
    return f"RuntimeError: Failed to bind socket to {host}:{port}: {reason}"


def bind_or_fail(host: str, port: int) -> socket.socket:
    """Bind without listening.

    Raises:
        StartError: the address cannot be bound.
    """
    try:
        return bind(host, port)
    except OSError as error:
        raise StartError(bind_failure_text(host, port, str(error))) from error


def read_model(model: str) -> Checkpoint:
    """Read a model folder, or find a model known by name.

    Raises:
        StartError: it is neither.
    """
    try:
        return load_checkpoint(model)
    except ModelShapeError as error:
        raise StartError(f"OSError: {error}") from error


async def start_dcgm(
    stack: AsyncExitStack, options: SimulationOptions, telemetry: GpuTelemetry, log: Callable[[str], None]
) -> None:
    """Serve the pretend GPUs' sensors when a port was asked for, and log the page's URL.

    Raises:
        StartError: the port cannot be bound.
    """
    if options.dcgm_port is None:
        return
    bound = bind_or_fail("127.0.0.1", options.dcgm_port)
    await start_site(stack, make_dcgm_app(options.gpu, options.gpu_count, telemetry), bound)
    log(f"simulated: dcgm-exporter on http://127.0.0.1:{bound.getsockname()[1]}/metrics")


def construct(
    config: EngineConfig, checkpoint: Checkpoint, options: SimulationOptions
) -> Simulation | ConfigurationError | OutOfGpuMemoryError:
    """Build the engine at once; a failure is returned, for the moment of the start at which it would show."""
    try:
        return Simulation(config, checkpoint, options.gpu, gpu_count=options.gpu_count, seed=options.seed)
    except (ConfigurationError, OutOfGpuMemoryError) as error:
        return error


def arm_faults(options: SimulationOptions, freeze: Callable[[], None], hang: Callable[[], None]) -> None:
    """Schedule the faults that come some time after readiness.

    Args:
        options: which faults, and when.
        freeze: stops the engine behind a living HTTP server.
        hang: has the HTTP server answer nothing any more.
    """
    loop = asyncio.get_running_loop()
    faults = options.faults

    def hang_all() -> None:
        hang()
        freeze()

    timed: tuple[tuple[float | None, Callable[[], None]], ...] = (
        (faults.crash_at_s, die),
        (faults.hang_at_s, hang_all),
        (faults.zombie_at_s, freeze),
    )
    for delay_s, action in timed:
        if delay_s is not None:
            loop.call_later(delay_s, action)


def die() -> None:
    """End at once, like a process the kernel killed: no goodbye on any connection."""
    sys.stdout.flush()
    print_error("simulated: crash-at: the process ends now")
    os._exit(FAILED_EXIT_CODE)
