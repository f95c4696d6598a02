"""Brings up the server of each trial: afresh, or in the one that runs where only settings changed that it takes running."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.errors import BadConfiguration, EngineError, StartFailed
from engines.failure import Failure
from engines.gpu import NoGpu, open_gpu_source
from engines.launch.build import missing_builds, run_builds
from engines.launch.gpu_memory import GpuMemory
from engines.launch.phases import CONTAINER, PROCESS, StartupPhases
from tuner.server import launch_spec, launcher_for, pre_check_spec, runs_here, shown_launch
from tuner.variants import knobs_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    import aiohttp

    from engines.base import Engine
    from engines.launch.base import RunningServer
    from engines.launch.spec import LaunchSpec
    from sessions.recorder import Recorder
    from sessions.records import Params
    from tuner.control import Control
    from tuner.plan import Plan
    from tuner.server import Places

PRE_CHECK_LIMIT_S = 300.0
NEW_PROCESS = ("build", "restart")
"""Costs of a change that a running server cannot take."""

PROFILE_OPTIONS = ("output_dir", "num_steps", "start_step", "activities")
"""What TensorRT-LLM and SGLang take with a start of their profiler."""

_DRY_RUN_UNKNOWN = ("unrecognized arguments", "no such option", "unknown option")


@dataclass(frozen=True, slots=True)
class Kept:
    """A server that goes on running after its trial.

    Attributes:
        server: The server.
        params: The settings in force.
    """

    server: RunningServer
    params: Params


@dataclass(slots=True, eq=False)
class Upkeep:
    """The servers of a worker's trials, one at a time.

    Attributes:
        plan: What is to be run.
        engine: The server's family.
        recorder: The session.
        control: What the operator wants.
        http: For health paths and reloads.
        places: Folders and ports.
        on_ready: Awaited when a server has become ready.
        keeps: Whether a server may go on running for the next trial.
        up: Every upkeep of this worker whose server is up, this one and those of other lanes; copies share it.
        memory: The GPUs' memory; None where it is another host's.
        running: The server that is up, or None.
        listener: Takes the server's log lines first; those it uses do not go into the session's log.
        profiling: Whether the server's profiler runs.
        profiled: Whether it ran at any time since this was last set to `profiling`.
    """

    plan: Plan
    engine: Engine
    recorder: Recorder
    control: Control
    http: aiohttp.ClientSession
    places: Places
    on_ready: Callable[[], Awaitable[None]]
    keeps: bool = True
    up: list[Upkeep] = field(default_factory=list)
    memory: GpuMemory | None = field(init=False)
    running: RunningServer | None = field(init=False, default=None)
    listener: Callable[[str], bool] | None = field(init=False, default=None)
    profiling: bool = field(init=False, default=False)
    profiled: bool = field(init=False, default=False)
    _costs: dict[str, str] = field(init=False)
    _kept: Kept | None = field(init=False, default=None)
    _checks: bool = field(init=False)

    def __post_init__(self) -> None:
        knobs = knobs_of(self.plan.engine, self.engine)
        self._costs = {knob.name: knob.cost for knob in knobs}
        self._checks = self.plan.engine.pre_check
        local = self.plan.gpu.local and runs_here(self.plan.engine)
        only = self.places.gpus
        self.memory = GpuMemory(lambda: _read_gpus(only)) if local else None

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes of the server that is up; none of one that trtune did not start."""
        return tuple(self.running.pids) if self.running is not None and self.running.owned else ()

    async def bring(self, number: int, params: Params) -> RunningServer:
        """A server with these settings, ready; after an interruption one that need not be.

        Raises:
            MissingProgram, NoRuntime, CannotStart: If no configuration can be started.
            BadConfiguration: If the engine does not take the settings.
            StartFailed: If it does not come up with them.
        """
        spec = launch_spec(self.plan.engine, self.engine, params, self.places, number)
        shown = shown_launch(spec, self.places)
        self.recorder.update_trial(number, launch=shown)
        kept, self._kept = self._kept, None
        if kept is not None and self._takes(kept.params, params):
            if await self._changed(number, kept, params, {**shown, "url": kept.server.url}):
                return kept.server
        elif kept is not None:
            await self._stop(number, kept.server)
        return await self._started(number, spec, params, shown)

    async def give_back(self, number: int, server: RunningServer, params: Params, *, well: bool) -> None:
        """Take a trial's server back: it is kept if the next trial may go on with it, else stopped.

        Args:
            number: The trial.
            server: Its server.
            params: The settings in force.
            well: Whether it served to the end.
        """
        usable = self.keeps and well and server.owned and not self.control.interrupt.is_set()
        if usable and any(cost not in NEW_PROCESS for cost in self._costs.values()):
            self._kept = Kept(server, params)
            return
        self.recorder.start_phase(number, "stop")
        await self._stop(number, server)

    async def profile(self, url: str, args: Mapping[str, Any]) -> str:
        """Start or stop the server's profiler; returns what the server said. What is measured meanwhile does not count.

        Raises:
            BadConfiguration: If the action is unknown, or this kind of server has no profiler.
            Unreachable, EngineError: If the server does not do it.
        """
        action = args.get("action")
        if action not in ("start", "stop"):
            raise BadConfiguration("profile: the action must be start or stop")
        options = {name: args[name] for name in PROFILE_OPTIONS if args.get(name) is not None}
        if action == "start":
            self.profiled = True
        told = await self.engine.profile(self.http, url, action, options if action == "start" else {})
        self.profiling = action == "start" and "num_steps" not in options  # which end by themselves
        return told

    async def close(self) -> None:
        """Stop a server that was kept."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await self._end(kept.server)

    def _takes(self, before: Params, after: Params) -> bool:
        """Whether the running server can be given the new settings."""
        names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        return all(self._costs.get(name, "restart") not in NEW_PROCESS for name in names)

    async def _changed(self, number: int, kept: Kept, params: Params, shown: dict[str, object]) -> bool:
        """Give a running server new settings; False when it cannot take them and has been stopped.

        Raises:
            StartFailed: If it does not come up with them; the former ones are in force again, and it is kept.
        """
        if "reload" not in self._costs.values():
            return True  # only what the client does has changed
        reloaded = {name: value for name, value in params.items() if self._costs.get(name) == "reload"}
        self.recorder.start_phase(number, "reload")
        begun_s = time.monotonic()
        try:
            finished = await self.control.unless_interrupted(
                self.engine.reload(self.http, kept.server.url, reloaded, emptied=self._settled)
            )
        except StartFailed:
            self._kept = kept
            raise
        except EngineError as error:
            self.recorder.log("worker", "warning", f"{error}; the server is started again instead")
            await self._stop(number, kept.server)
            return False
        except BaseException:
            await self._end(kept.server)
            raise
        if finished:
            self.recorder.update_trial(
                number, ready_s=time.monotonic() - begun_s, launch={**shown, "changed_by": "reload"}
            )
        return True

    async def _started(self, number: int, spec: LaunchSpec, params: Params, shown: dict[str, object]) -> RunningServer:
        await self._pre_checked(number, params)
        await self._built(number, spec)
        if self.memory is not None:
            await asyncio.to_thread(self.memory.remember)
        self.recorder.start_phase(number, "start")
        phases = StartupPhases(self.engine.startup_phases, CONTAINER if spec.container is not None else PROCESS)

        def on_log(line: str) -> None:
            phases.line(line)
            if self.listener is None or not self.listener(line):
                self.recorder.log("server", "info", line)

        server = self.running = await launcher_for(self.plan.engine).start(spec, on_log)
        self.up.append(self)
        try:
            wait_ready = server.wait_ready(self.http, self.plan.engine.start_timeout_s)
            finished = await self.control.unless_interrupted(wait_ready)
            if not finished:
                return server
            phases.ready()
            self._tell_ready(number, finished[0], phases, {**shown, "url": server.url}, owned=server.owned)
            await self.on_ready()
        except BaseException:
            await self._end(server)
            raise
        return server

    def _tell_ready(
        self, number: int, ready_s: float, phases: StartupPhases, shown: dict[str, object], *, owned: bool
    ) -> None:
        """Record how long the start took, and each of its phases."""
        took = {phase.name: round(phase.duration_s, 3) for phase in phases.phases()} if owned else {}
        self.recorder.update_trial(number, ready_s=ready_s, launch={**shown, "startup_s": took})
        if len(took) > 1:
            words = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
            self.recorder.log("worker", "info", f"trial {number} is ready after {ready_s:.1f} s: {words}")

    async def _pre_checked(self, number: int, params: Params) -> None:
        """Have the server's own check look at the settings, where there is one: it costs seconds and a start minutes.

        Raises:
            StartFailed: If it refuses them.
        """
        spec = pre_check_spec(self.plan.engine, self.engine, params, self.places, number) if self._checks else None
        if spec is None:
            return
        self.recorder.start_phase(number, "prepare")
        checked = await self.control.unless_interrupted(
            launcher_for(self.plan.engine).run_to_end(spec, PRE_CHECK_LIMIT_S)
        )
        if not checked:
            raise StartFailed(Failure("stopped", "the check was broken off", infeasible=False))
        finished = checked[0]
        for line in finished.lines:
            self.recorder.log("pre-check", "info", line)
        if finished.exit_code == 0:
            return
        if any(words in line for line in finished.lines for words in _DRY_RUN_UNKNOWN if "--dry-run" in line):
            self._checks = False
            self.recorder.log("worker", "warning", "this server cannot check a configuration without a start")
            return
        last = next((line.strip() for line in reversed(finished.lines) if line.strip()), "no word of why")
        text = f"its own check refuses these settings: {last}"
        raise StartFailed(finished.failure or Failure("bad_config", text, last, exit_code=finished.exit_code))

    async def _built(self, number: int, spec: LaunchSpec) -> None:
        """Make what the server needs and is not there yet, such as an engine; it is kept for the next trials.

        Raises:
            StartFailed: If it cannot be made.
        """
        missing = missing_builds(spec)
        if not missing:
            return
        self.recorder.start_phase(number, "build")
        begun_s = time.monotonic()
        finished = await self.control.unless_interrupted(
            run_builds(spec, lambda line: self.recorder.log("build", "info", line))
        )
        if not finished:
            raise StartFailed(Failure("stopped", "the build was broken off", infeasible=False))
        if finished[0]:
            words = " and ".join(finished[0])
            self.recorder.log("worker", "info", f"trial {number}: {words} took {time.monotonic() - begun_s:.0f} s")

    async def _stop(self, number: int, server: RunningServer) -> None:
        """Stop it, and wait until its GPU memory is free."""
        await self._end(server)
        if server.owned and self.memory is not None and (held := await asyncio.to_thread(self.memory.settle)):
            text = f"after trial {number} {held} than before the first start: does another process use it?"
            self.recorder.log("worker", "warning", text)

    async def _end(self, server: RunningServer) -> None:
        self.running = None
        self.profiling = False
        if self in self.up:
            self.up.remove(self)
        await server.stop()

    async def _settled(self) -> None:
        """Wait until a model that was unloaded has given its memory back."""
        if self.memory is not None:
            await asyncio.to_thread(self.memory.settle)


def _read_gpus(only: tuple[str, ...]) -> dict[str, float]:
    """Memory in use of this host's GPUs, by index; empty where there are none to be seen.

    Args:
        only: UUIDs or indices of the GPUs to look at; empty: all.
    """
    source = open_gpu_source(None, local=True)
    if isinstance(source, NoGpu):
        return {}
    try:
        read = zip(source.gpus, source.sample(), strict=True)
        return {
            str(gpu.index): sample.mem_used_bytes
            for gpu, sample in read
            if not only or gpu.uuid in only or str(gpu.index) in only
        }
    finally:
        source.close()
