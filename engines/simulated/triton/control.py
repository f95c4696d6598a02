"""Loading and unloading models, with the traps measured on a real Triton 2.51 (triton.md section 7)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from engines.simulated.model import OutOfGpuMemoryError, Simulation, SimulationError
from engines.simulated.pacing import PacedEngine
from engines.simulated.triton.backends import Backing, Kind, LoadError, read_backing, required_file
from engines.simulated.triton.metrics import ModelCounters
from engines.simulated.triton.repository import ModelFiles, PollError, Repository, overridden
from engines.simulated.trtllm.failure_texts import out_of_memory_text

if TYPE_CHECKING:
    from engines.simulated.model import Iteration
    from engines.simulated.options import SimulationOptions
    from engines.simulated.telemetry import GpuTelemetry

_SMALLEST_UNLOAD_S: Final = 0.02
"""An unload is never instant: the index shows UNLOADING at least this long."""

_UNLOAD_S: Final = 3.0
"""Time a model takes to free its memory, before scaling."""


class ControlError(Exception):
    """A load or unload was refused.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class LoadedModel:
    """A model that can serve.

    Attributes:
        files: what it was loaded from.
        fingerprint: of those files.
        backing: what stands behind it.
        engine: its engine, None for a front.
        counters: what the metrics page tells about it.
        task: runs the engine.
        used_bytes: GPU memory it holds on each of its GPUs.
    """

    files: ModelFiles
    fingerprint: str
    backing: Backing
    engine: PacedEngine | None
    counters: ModelCounters
    task: asyncio.Task[None] | None
    used_bytes: float


@dataclass(slots=True)
class _Slot:
    """One model's state in the index."""

    state: str = ""
    reason: str = ""
    model: LoadedModel | None = None
    hanging: bool = False
    disk_fingerprint: str = ""


class ModelControl:
    """Every model of the repository and what is being done with it."""

    def __init__(
        self, repository: Repository, options: SimulationOptions, telemetry: GpuTelemetry, *, auto_complete: bool
    ) -> None:
        self._repository = repository
        self._options = options
        self._telemetry = telemetry
        self._auto_complete = auto_complete
        self._slots: dict[str, _Slot] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.frozen = False

    @property
    def ready(self) -> bool:
        """Whether no model is on its way in or out (measured: 400 while any is unloading)."""
        return all(slot.state in ("READY", "UNAVAILABLE", "") for slot in self._slots.values())

    @property
    def hangs(self) -> bool:
        """Whether a load hangs; such a server does not end on SIGTERM."""
        return any(slot.hanging for slot in self._slots.values())

    def models(self) -> dict[str, LoadedModel]:
        """Return every model that serves, by name."""
        return {name: slot.model for name, slot in self._slots.items() if slot.model is not None}

    def engine_of(self, model: LoadedModel) -> LoadedModel:
        """Return the model whose engine answers: a front's is the repository's first one with an engine.

        Raises:
            ControlError: there is none.
        """
        if model.engine is not None:
            return model
        for other in self.models().values():
            if other.engine is not None:
                return other
        raise ControlError("in ensemble, request for unknown model: 'tensorrt_llm' is not found", 404)

    def index(self) -> list[dict[str, str]]:
        """Return the index; a model never loaded has no state (measured)."""
        rows: list[dict[str, str]] = []
        for name in self._repository.names():
            slot = self._slots.get(name)
            if slot is None or not slot.state:
                rows.append({"name": name})
                continue
            reason = {"reason": slot.reason} if slot.reason else {}
            rows.append({"name": name, "version": "1", "state": slot.state, **reason})
        return rows

    def freeze(self) -> None:
        """Stop every engine for ever."""
        self.frozen = True
        for model in self.models().values():
            if model.engine is not None:
                model.engine.freeze()

    async def load(self, name: str, parameters: dict[str, Any]) -> None:
        """Load or reload a model; returns when it is ready.

        Raises:
            ControlError: it was refused or failed; what served before still serves.
        """
        slot = self._slots.setdefault(name, _Slot())
        await self._wait_if_hanging(slot)
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                disk = self._repository.read(name)
                wanted = overridden(disk, parameters)
            except PollError as error:
                if not slot.state:
                    del self._slots[name]
                raise ControlError(str(error), 500) from error
            if self._is_running_already(slot, disk, wanted):
                return
            files = wanted or disk
            await self._hang_if_incomplete(slot, files)
            await self._replace(name, slot, files, disk.fingerprint())

    async def _wait_if_hanging(self, slot: _Slot) -> None:
        """Wait for ever behind a load that hangs, as every later load and unload of the model does (measured)."""
        if slot.hanging:
            await asyncio.Event().wait()

    def _is_running_already(self, slot: _Slot, disk: ModelFiles, wanted: ModelFiles | None) -> bool:
        """Return whether a load changes nothing: same configuration, whatever the files of an override say (measured)."""
        if slot.model is None:
            return False
        if wanted is None:
            return slot.disk_fingerprint == disk.fingerprint()
        return dict(wanted.config) == dict(config_of(slot.model))

    async def _hang_if_incomplete(self, slot: _Slot, files: ModelFiles) -> None:
        """Hang for ever on an override that lacks the model's main file (measured)."""
        kind = Kind.VLLM if files.config.get("backend") == "vllm" else Kind.LLM_API
        needed = required_file(kind)
        if files.overridden and files.config.get("backend") in ("python", "vllm") and needed not in files.files:
            slot.hanging = True
            await asyncio.Event().wait()

    async def _replace(self, name: str, slot: _Slot, files: ModelFiles, disk_fingerprint: str) -> None:
        """Bring the new model up beside the old one, then let the old one go (measured)."""
        old, old_state = slot.model, (slot.state, slot.reason)
        if old is None:
            slot.state, slot.reason = "LOADING", ""
        try:
            model = await self._start(files)
        except LoadError as error:
            slot.state, slot.reason = old_state if old else ("UNAVAILABLE", f"Internal: {error}")
            raise ControlError(
                f"load failed for model '{name}': version 1 is at UNAVAILABLE state: Internal: {error};\n", 400
            ) from error
        slot.model, slot.state, slot.reason = model, "READY", ""
        slot.disk_fingerprint = disk_fingerprint
        if old is not None:
            model.counters.inherit(old.counters)
            self._spawn(self._drain(old))
        self._note_memory()

    def _free_bytes(self) -> float:
        held = sum(slot.model.used_bytes for slot in self._slots.values() if slot.model is not None)
        return self._options.gpu.hbm_bytes - held

    async def _start(self, files: ModelFiles) -> LoadedModel:
        """Start what stands behind a model, on the memory that is free now.

        Raises:
            LoadError: it does not start.
        """
        options = self._options
        free = replace(options.gpu, hbm_bytes=max(1, int(self._free_bytes())))
        try:
            backing = read_backing(files, free, options.gpu_count, auto_complete=self._auto_complete)
            if backing.config is None or backing.checkpoint is None:
                return LoadedModel(files, files.fingerprint(), backing, None, ModelCounters(), None, 0.0)
            simulation = Simulation(
                backing.config, backing.checkpoint, free, gpu_count=options.gpu_count, seed=options.seed
            )
        except OutOfGpuMemoryError as error:
            raise LoadError(out_of_memory_text(error)) from error
        except SimulationError as error:
            raise LoadError(f"RuntimeError: {error}") from error
        await asyncio.sleep(simulation.startup.total_s * options.time_scale)
        return self._run(files, backing, simulation)

    def _run(self, files: ModelFiles, backing: Backing, simulation: Simulation) -> LoadedModel:
        engine = PacedEngine(simulation, self._options.speed, self._options.answer_loss)
        counters = ModelCounters()

        def observe(iteration: Iteration) -> None:
            self._telemetry.observe(iteration, time.monotonic())
            counters.observe(iteration)

        engine.listen(observe)
        if self.frozen:
            engine.freeze()
        task = asyncio.create_task(engine.run(), name=f"pacing {files.name}")
        return LoadedModel(files, files.fingerprint(), backing, engine, counters, task, simulation.plan.used_bytes)

    async def unload(self, name: str) -> None:
        """Begin to unload a model; the index tells when it is gone (measured: 200 at once, also for no such model)."""
        slot = self._slots.get(name)
        if slot is None or slot.model is None:
            return
        await self._wait_if_hanging(slot)
        old, slot.model = slot.model, None
        slot.state, slot.reason = "UNLOADING", ""
        self._spawn(self._finish_unload(slot, old))

    async def _finish_unload(self, slot: _Slot, old: LoadedModel) -> None:
        await self._drain(old)
        await asyncio.sleep(max(_SMALLEST_UNLOAD_S, _UNLOAD_S * self._options.time_scale))
        if slot.state == "UNLOADING":
            slot.state, slot.reason = "UNAVAILABLE", "unloaded"
        self._note_memory()

    async def _drain(self, model: LoadedModel) -> None:
        """Let requests in flight finish, then stop the engine; a frozen engine never gets there."""
        engine = model.engine
        if engine is not None and engine.open_requests:
            delivered = asyncio.Event()
            engine.listen(lambda _: None if engine.open_requests else delivered.set())
            await delivered.wait()
        if model.task is not None:
            model.task.cancel()

    def _note_memory(self) -> None:
        self._telemetry.set_memory(self._options.gpu.hbm_bytes - self._free_bytes())

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stop every engine."""
        for model in self.models().values():
            if model.task is not None:
                model.task.cancel()
        for task in self._tasks:
            task.cancel()


def config_of(model: LoadedModel) -> dict[str, Any]:
    """Return a model's configuration as ``GET /config`` tells it, with what its backend filled in."""
    config: dict[str, Any] = {
        "name": model.files.name,
        "platform": "",
        "backend": "",
        "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [],
        "output": [],
        "batch_input": [],
        "batch_output": [],
        "instance_group": [],
        "default_model_filename": "model.py" if model.backing.kind is Kind.LLM_API else "",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
        **model.files.config,
    }
    config["model_transaction_policy"] = {"decoupled": model.backing.decoupled}
    return config
