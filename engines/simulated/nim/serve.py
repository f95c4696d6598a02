"""A NIM from its variables and words to its exit code."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from engines.simulated.lifecycle import StopSignal, run_until_done, start_site
from engines.simulated.model import OutOfGpuMemoryError, Simulation
from engines.simulated.model.memory import Component
from engines.simulated.model.startup import IMPORTS_S
from engines.simulated.nim.environment import Environment
from engines.simulated.nim.routes import Front, OldServer
from engines.simulated.pacing import PacedEngine
from engines.simulated.start import (
    FAILED_EXIT_CODE,
    FOREVER_S,
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
from engines.simulated.trtllm.failure_texts import out_of_memory_text
from engines.simulated.vllm import serve as vllm
from engines.simulated.vllm.command_line import ServeCommand, parse_command
from engines.simulated.vllm.engine_settings import settle
from engines.simulated.vllm.routes import Paths, VllmServer

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from engines.simulated.options import SimulationOptions

OLD_VERSION: Final = "1.15.0"
NEW_VERSION: Final = "2.0.5"
VLLM_INSIDE: Final = "0.20.2"
"""vLLM of NIM 2.0.5 (contract section 1)."""

_OLD_WORDS: Final = ("nim-run", "start_server.sh")
_NEW_WORDS: Final = ("nim-serve", "serve")
_ADDRESS: Final = "127.0.0.1"
"""The simulated NIM is for this host only; a real one listens on every interface of its container."""


def log(message: str, level: str = "INFO") -> None:
    """Write one line to stdout, at once."""
    sys.stdout.write(f"{level} {time.strftime('%Y-%m-%d %H:%M:%S')} nim: {message}\n")
    sys.stdout.flush()


def main(arguments: list[str], options: SimulationOptions) -> int:
    """Serve until a signal comes, or do one of NIM's other commands, and return the exit code."""
    words = list(arguments)
    first = words.pop(0) if words and not words[0].startswith("-") else _NEW_WORDS[0]
    old = first.endswith(_OLD_WORDS) if options.version is None else options.version.startswith("1.")
    version = options.version or (OLD_VERSION if old else NEW_VERSION)
    log(banner(f"NIM {version}", options))
    if first not in (*_OLD_WORDS, *_NEW_WORDS, "list-model-profiles"):
        words.insert(0, first)
    environment = Environment(os.environ)
    try:
        if first == "list-model-profiles":
            return _list_profiles(environment, options, old=old)
        return run_until_done(_Server(words, options, environment, version, old=old).run)
    except StartError as error:
        print_error(str(error))
        return FAILED_EXIT_CODE


def profile_id(name: str) -> str:
    """Return the 64 hexadecimal digits that stand for a profile."""
    return hashlib.sha256(name.encode()).hexdigest()


def _list_profiles(environment: Environment, options: SimulationOptions, *, old: bool) -> int:
    """Print what fits this pretend host, under NIM's headings (contract section 4)."""
    shape = read_model(environment.model(None)).shape
    engine = "tensorrt_llm" if old else "vllm"
    runnable: list[str] = []
    other: list[str] = []
    for tensor in (1, 2, 4, 8):
        name = f"{engine}-bf16-tp{tensor}-pp1" + ("-throughput" if old else "")
        fits = tensor <= options.gpu_count and shape.attention_heads % tensor == 0
        (runnable if fits else other).append(f"  - {profile_id(name)} ({name})")
    gpus = [
        f"  [2330:10de] ({index}) {options.gpu.product_name} [current utilization: 0%]"
        for index in range(options.gpu_count)
    ]
    lines = [
        "SYSTEM INFO",
        "- Free GPUs:",
        *gpus,
        "MODEL PROFILES",
        "- Compatible with system and runnable:",
        *runnable,
    ]
    lines += ["- Incompatible with system:", *other]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


class _Server:
    """One server process."""

    def __init__(
        self, words: list[str], options: SimulationOptions, environment: Environment, version: str, *, old: bool
    ) -> None:
        self._options = options
        self._environment = environment
        self._version = version
        self._old = old
        typed = words.pop(0) if words and not words[0].startswith("-") else None
        self._dry_run = "--dry-run" in words
        self._words = [word for word in words if word != "--dry-run"]
        self._model = environment.model(typed)

    async def run(self) -> int:
        """Start, serve, stop."""
        return await serve_until_stopped(self._serve, lambda: log("stopped while starting"))

    async def _serve(self, stack: AsyncExitStack, stop: StopSignal) -> None:
        options, environment = self._options, self._environment
        command = None if self._old else self._vllm_command()
        if self._dry_run and command is not None:
            settled = settle(command, read_model(self._model), options.gpu, options.gpu_count)
            told = {"model": command.model, "max_model_len": settled.max_model_len, **command.typed}
            sys.stdout.write(json.dumps({"simulated": True, **told}) + "\n")
            return
        bound = bind_or_fail(_ADDRESS, environment.port())
        stack.callback(bound.close)
        names = environment.served_names(self._model)
        engine_name = "tensorrt_llm" if self._old else "vllm"
        profile = profile_id(f"{engine_name}-{self._model}")
        log(f"Selected profile: {profile} ({engine_name})")
        front = Front(self._version, names[0], profile, alive_before_ready=not self._old)
        await start_site(stack, front.application(), bound)
        log("Serving on http://{}:{}".format(*bound.getsockname()[:2]))
        await stop.sleep(IMPORTS_S * options.time_scale)
        telemetry = GpuTelemetry(options.gpu, options.gpu_count, time.monotonic())
        await start_dcgm(stack, options, telemetry, log)
        if command is None:
            engine = await self._start_old(front, names, stop, telemetry)
        else:
            engine = await self._start_new(front, command, stop, telemetry)
        pace(stack, engine)
        log("Application startup complete.")
        arm_faults(options, engine.freeze, front.hang)
        await stop.wait()
        log("Shutting down")

    def _vllm_command(self) -> ServeCommand:
        words = self._environment.passthrough(self._words)
        command = parse_command([self._model, *words], "nim-serve")
        return replace(command, served_names=self._environment.served_names(self._model))

    async def _start_new(
        self, front: Front, command: ServeCommand, stop: StopSignal, telemetry: GpuTelemetry
    ) -> PacedEngine:
        options = self._options
        settled = settle(command, read_model(self._model), options.gpu, options.gpu_count)
        simulation = await vllm.load(command, settled, options, stop, telemetry)
        engine = PacedEngine(simulation, options.speed, options.answer_loss)
        paths = Paths(ready=(), metrics="/v1/metrics")
        server = VllmServer(command, VLLM_INSIDE, engine, telemetry, options.faults, paths)
        front.connect(server.application(), engine)
        return engine

    async def _start_old(
        self, front: Front, names: tuple[str, ...], stop: StopSignal, telemetry: GpuTelemetry
    ) -> PacedEngine:
        options, faults = self._options, self._options.faults
        config, checkpoint = self._environment.engine_config(read_model(self._model))
        outcome = construct(config, checkpoint, options)
        if isinstance(outcome, OutOfGpuMemoryError):
            raise StartError(out_of_memory_text(outcome))
        if not isinstance(outcome, Simulation):
            raise StartError(f"RuntimeError: {outcome}")
        await stop.sleep(FOREVER_S if faults.never_ready else outcome.startup.total_s * options.time_scale)
        if faults.oom_at_start:
            free = outcome.gpu.hbm_bytes - outcome.plan.weight_bytes
            failure = OutOfGpuMemoryError(Component.KV_CACHE, outcome.gpu.hbm_bytes, free, ())
            raise StartError(out_of_memory_text(failure))
        telemetry.set_memory(outcome.plan.used_bytes)
        engine = PacedEngine(outcome, options.speed, options.answer_loss)
        tells = self._environment.switch("NIM_PER_REQ_METRICS_ENABLE")
        server = OldServer(engine, names, telemetry, faults, tells_request_metrics=tells)
        front.connect(server.application(), engine)
        return engine
