"""Runs trials on a node of a cluster: what the driver's actor does there. Knows nothing of how it was placed."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engines.gpu.errors import GpuUnavailable
from engines.launch.ports import free_port
from sessions.clock import SessionClock
from tuner.control import Control
from tuner.fleet.forwarding import ForwardingRecorder
from tuner.fleet.inventory import host_gpus
from tuner.gpu_watch import GpuWatch
from tuner.opening import open_bench
from tuner.plan import Plan
from tuner.server import Places
from tuner.trial import run_trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.fleet.forwarding import Call
    from tuner.trial import Order, TrialResult

TAKE_S: Final = 0.25
"""How long a request for what was recorded waits: samples reach the session within this and the way there."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a node says of itself.

    Attributes:
        host: Its name.
        node: Its identity in the cluster.
        version: Of trtune there.
        gpus: GPUs it was given, as the driver on that node counts them; empty: it was given none.
        name: Product name of the first of them; empty where no driver tells.
        pid: Process that runs the trials.
    """

    host: str
    node: str
    version: str
    gpus: tuple[int, ...]
    name: str
    pid: int


class TrialHost:
    """Runs one trial at a time for a driver on another host, and hands over what it records."""

    def __init__(self, lane: str, gpus: tuple[int, ...], version: str, node: str = "") -> None:
        """Prepare.

        Args:
            lane: Name of the lane in the driver's session.
            gpus: GPUs that this host may use, by the driver's index; empty: all.
            version: Of trtune here.
            node: Identity of this node in the cluster.
        """
        self._lane = lane
        self._gpus = gpus
        self._version = version
        self._node = node
        self._clock = SessionClock.start()
        self._control = Control()
        self._recorder: ForwardingRecorder | None = None
        self._skips = False

    def greet(self) -> Greeting:
        """Say who this is."""
        return Greeting(platform.node(), self._node, self._version, self._gpus, _gpu_name(self._gpus), os.getpid())

    def now(self) -> int:
        """Session time of this host, in ns: that of all its trials."""
        return self._clock.now()

    def wish(self, name: str) -> None:
        """Pass on what the operator wants: `pause`, `resume`, `skip` or `end`."""
        wishes: dict[str, Callable[[], object]] = {
            "pause": self._control.pause,
            "resume": self._control.resume,
            "skip": self._skip,
            "end": self._control.end,
        }
        wishes[name]()

    async def run(self, plan_values: dict[str, Any], order: Order, number: int) -> TrialResult:
        """Run a trial.

        Args:
            plan_values: The plan, as JSON.
            order: What is to be run.
            number: Its number in the driver's session.
        """
        # A pause told during the trial before may have been lifted since; one that is in force is told again.
        self._control.resume()
        self._skips = False
        plan = Plan.model_validate(plan_values)
        # An exporter in the plan shows the server's own GPUs; only a driver shows those of others too.
        watched = () if plan.gpu.dcgm_url else self._gpus
        with tempfile.TemporaryDirectory(prefix="trtune-") as folder:
            recorder = ForwardingRecorder.begin(Path(folder) / "trial.trtune", number, self._clock)
            self._recorder = recorder
            places = Places(Path(folder), free_port("127.0.0.1"), gpus=tuple(map(str, self._gpus)))
            try:
                async with AsyncExitStack() as stack:
                    gpus = GpuWatch(plan.gpu, places, recorder, only=watched, lane=self._lane, here=plan.gpu.local)
                    bench = await open_bench(stack, plan, recorder, self._control, places, gpus, lane=self._lane)
                    return await run_trial(bench, order, self._begun)
            finally:
                recorder.close()

    def _skip(self) -> None:
        """Leave the trial that runs; the driver counts it as running before it does here."""
        self._skips = self._control.skip() is None

    def _begun(self, _number: int) -> None:
        if self._skips:
            self._control.skip()

    async def take(self) -> list[Call]:
        """What was recorded since the last time; waits a moment, so that it comes in batches."""
        await asyncio.sleep(TAKE_S)
        return self.take_now()

    def take_now(self) -> list[Call]:
        """The same without waiting."""
        return self._recorder.take() if self._recorder is not None else []


def _gpu_name(gpus: tuple[int, ...]) -> str:
    """Product name of the first of these GPUs; empty where there is no driver."""
    try:
        found = host_gpus(wish=None)
    except GpuUnavailable:
        return ""
    return next((gpu.name for gpu in found if gpu.index in gpus), "")
