"""What every trial of a worker shares."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tuner.sampling import source_name
from tuner.search.problem import Meaning, meaning_of
from tuner.variants import knobs_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import aiohttp

    from engines.base import Engine
    from engines.knob import Value
    from sessions.recorder import Recorder
    from tuner.control import Control
    from tuner.load.generator import LoadGenerator
    from tuner.plan import Plan
    from tuner.quality.checking import GateAnswer
    from tuner.search.objective import Objective
    from tuner.upkeep import Upkeep

_PARALLEL: Final = (Meaning.TENSOR_PARALLEL, Meaning.PIPELINE_PARALLEL, Meaning.REPLICAS)


@dataclass(slots=True)
class Bench:
    """What every trial of a worker shares.

    Attributes:
        plan: What is to be run; changes when an operator changes ranges or objective.
        engine: The server's family.
        objectives: What counts as better; the first one is what a trial's single score shows.
        recorder: The session.
        control: What the operator wants.
        http: For health, metrics and questions to the server.
        load: Sends the requests.
        upkeep: Starts and stops the servers.
        on_ready: Called when a server has become ready: GPU sources that live in it can be opened now.
        on_gate: Told at once what the gate of a trial found.
        watched_gpus: How many GPUs are sampled.
        lane: Name of the lane on which a trial runs beside others; empty for the first one.
        gpu_uuids: GPUs of its seat, where it has one of its own.
        source: Number of the load's source of samples.
    """

    plan: Plan
    engine: Engine
    objectives: tuple[Objective, ...]
    recorder: Recorder
    control: Control
    http: aiohttp.ClientSession
    load: LoadGenerator
    upkeep: Upkeep
    on_ready: Callable[[], Awaitable[None]]
    on_gate: Callable[[int, GateAnswer], None] = lambda _number, _answer: None
    watched_gpus: Callable[[], int] = lambda: 0
    lane: str = ""
    gpu_uuids: tuple[str, ...] = ()
    source: int = field(init=False)

    def __post_init__(self) -> None:
        self.source = self.recorder.add_source(
            "load", source_name(self.lane, "load"), {"workload": self.plan.workload.name}
        )

    @property
    def objective(self) -> Objective:
        """What a trial's single score shows."""
        return self.objectives[0]

    @property
    def precision(self) -> float | None:
        """How precisely a level is to be known where the plan's stop rule does not say; a bench does as it is told."""
        return self.plan.search.precision if self.plan.kind == "tune" else None

    def gpus_of(self, params: Mapping[str, Value]) -> int:
        """How many GPUs a configuration uses; one found running, or without any knob of parallelism, uses all that are watched."""
        if self.plan.engine.launch != "attach" and (count := parallel_gpus(self.plan, self.engine, params)):
            return count
        return max(self.watched_gpus(), 1)


def parallel_gpus(plan: Plan, engine: Engine, params: Mapping[str, Value]) -> int:
    """The GPUs that a configuration's knobs of parallelism ask for; 0 when the engine has none of them."""
    counts = [
        params.get(knob.name, knob.default) or 1
        for knob in knobs_of(plan.engine, engine)
        if meaning_of(knob.name) in _PARALLEL
    ]
    return math.prod(count for count in counts if isinstance(count, int)) if counts else 0
