"""Trials on the nodes of a Ray cluster. Ray places, moves and transports; here is only what a trial means to it.

Each trial gets a placement group with its GPUs on one node, and an actor there that runs it (`tuner.fleet.trial_host`). The actor
records into its memory, the driver fetches that a few times a second and writes it into the one session. An actor whose node died
is replaced on another one, and its trial begins again there: the cut one stays in the session as interrupted, and the study knows
one proposal.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engines.failure import Failure
from sessions.lanes import PLACED
from sessions.records import FailureRecord
from tuner.errors import BadPlan
from tuner.fleet.actor import own_version, trial_actor
from tuner.fleet.forwarding import ClockLink, Merge
from tuner.fleet.opening import hardware_from
from tuner.fleet.ray_cluster import EXCHANGES, NoCluster, connect, future_of, own_error, telling_line
from tuner.trial import NOT_BEGUN, TrialResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.bench import Bench
    from tuner.control import Control
    from tuner.fleet.trial_host import Greeting
    from tuner.search.problem import Hardware
    from tuner.trial import Order

LOST_LIMIT: Final = 3
"""Nodes a trial may lose before it counts as failed."""

NODES_S: Final = 600.0
"""How long the nodes of a cluster may take to join it."""

PLACE_SAY_S: Final = 10.0
"""After so long without a place, the session says what is waited for."""

TRTUNE_CPUS: Final = 1
"""CPUs that Ray sets aside for the load and the samplers of a trial."""


class _Lost(Exception):
    """The node of a trial is gone."""


class _Ended(Exception):
    """The work was ended while a trial waited for a place."""


@dataclass(slots=True)
class _Host:
    """An actor with its place: the GPUs of one node. No two that live at a time have the same lane."""

    lane: int
    actor: Any
    place: Any
    gpus: int
    greeting: Greeting
    link: ClockLink


class RayFleet:
    """Runs trials on a Ray cluster.

    Attributes:
        lanes: Trials side by side at most.
    """

    def __init__(self, ray: Any, bench: Bench, lanes: int) -> None:
        """Take a connected cluster; `RayFleet.connect` makes one."""
        self.lanes = lanes
        self._ray = ray
        self._bench = bench
        self._version = own_version()
        self._idle: list[_Host] = []
        self._taken: set[int] = set()
        self._waiting = 0

    @classmethod
    async def connect(cls, address: str, bench: Bench, lanes: int, wait_nodes: int = 0) -> RayFleet:
        """Connect to a cluster, and wait until enough of its nodes are there.

        Args:
            address: `ray://HOST:10001`, `HOST:6379`, or `auto` for the one this host belongs to.
            bench: What every trial shares.
            lanes: Trials side by side at most.
            wait_nodes: Nodes to wait for.

        Raises:
            NoCluster: If Ray is not installed, nobody answers, or the nodes do not come.
        """
        ray = await connect(address)
        fleet = cls(ray, bench, lanes)
        await fleet._wait_for(wait_nodes)
        return fleet

    async def hardware(self) -> Hardware | None:
        """The GPUs of the largest node, as one of them says; None when they are of no known type."""
        most = self.most_gpus()
        if not most:
            return None
        try:
            host = await self._host(1)
        except _Ended:
            return None
        self._idle.append(host)
        return hardware_from(host.greeting.name, most)

    def most_gpus(self) -> int:
        """GPUs of the largest node that is alive."""
        return max((int(node["Resources"].get("GPU", 0)) for node in self._ray.nodes() if node["Alive"]), default=0)

    def room(self, gpus: int) -> int:
        """How many trials of so many GPUs each can run at the same time."""
        alive = [int(node["Resources"].get("GPU", 0)) for node in self._ray.nodes() if node["Alive"]]
        return min(self.lanes, sum(count // gpus for count in alive)) if gpus else self.lanes

    async def run(self, order: Order, gpus: int, on_number: Callable[[int], None]) -> TrialResult:
        """Run a trial on some node; on another one when that node dies.

        Args:
            order: What is to be run.
            gpus: GPUs it needs, all on one node.
            on_number: Told the trial's number in the session; once more when it begins again.

        Raises:
            BadPlan: If no node has that many GPUs.
        """
        self._require_room(gpus)
        with self._bench.control.child() as control:
            return await self._run_somewhere(control, order, gpus, on_number)

    async def _run_somewhere(
        self, control: Control, order: Order, gpus: int, on_number: Callable[[int], None]
    ) -> TrialResult:
        recorder, lost = self._bench.recorder, 0
        while True:
            try:
                host = await self._host(gpus)
            except _Ended:
                return TrialResult(NOT_BEGUN, "interrupted")
            number = recorder.start_trial(order.kind, order.params)
            control.begin_trial(number)
            on_number(number)
            try:
                return await self._run_on(host, control, order, number)
            except _Lost:
                lost += 1
            if lost == LOST_LIMIT and not control.stop.is_set():
                text = f"the nodes it ran on died, {LOST_LIMIT} times in a row"
                failure = Failure("host_lost", text, infeasible=False)
                recorder.end_trial(number, "failed", failure=FailureRecord(failure.kind, failure.text))
                return TrialResult(number, "failed", failure=failure)
            self._tell_lost(host, number)
            if control.stop.is_set():
                return TrialResult(number, "interrupted")

    async def close(self) -> None:
        """Give everything back."""
        for host in self._idle:
            self._release(host)
        self._idle.clear()
        await asyncio.to_thread(self._ray.shutdown)

    async def _wait_for(self, nodes: int) -> None:
        deadline = time.monotonic() + NODES_S
        while (there := sum(node["Alive"] for node in self._ray.nodes())) < nodes:
            self._bench.recorder.set_worker("starting", f"{there} of {nodes} nodes of the cluster are there")
            if time.monotonic() > deadline:
                raise NoCluster(
                    f"{there} of {nodes} nodes joined the cluster within {NODES_S:g} s: see the log of `ray start`"
                )
            await asyncio.sleep(1.0)

    def _require_room(self, gpus: int) -> None:
        most = self.most_gpus()
        if gpus > most:
            raise BadPlan(
                f"{gpus} GPUs on one node are asked for and the largest node of the cluster has {most}:"
                " lower the parallelism, or add a larger node"
            )

    async def _host(self, gpus: int) -> _Host:
        """An actor on a node with so many GPUs: one that is idle, or a new one as soon as Ray finds a place.

        Raises:
            _Ended: If the work ends before there is one.
            NoCluster: If node after node dies, or one cannot run trials.
        """
        for host in self._idle:
            if host.gpus == gpus:
                self._idle.remove(host)
                return host
        for host in self._idle:  # they hold GPUs that a trial of another size may need
            self._release(host)
        self._idle.clear()
        for _ in range(LOST_LIMIT):
            self._waiting += 1
            try:
                place = await self._place(gpus)
            finally:
                self._waiting -= 1
            lane = next(number for number in itertools.count() if number not in self._taken)
            self._taken.add(lane)
            try:
                return await self._open(place, gpus, lane)
            except self._ray.exceptions.RayActorError:
                self._forget(lane, place)  # its node died while it was opened
            except BaseException:
                self._forget(lane, place)
                raise
        raise NoCluster(f"{LOST_LIMIT} nodes in a row died before they could run a trial")

    async def _place(self, gpus: int) -> Any:
        from ray.util.placement_group import placement_group

        resources: dict[str, float] = {"CPU": TRTUNE_CPUS, **({"GPU": gpus} if gpus else {})}
        place = placement_group([resources], strategy="STRICT_PACK")
        ready = future_of(place.ready())
        try:
            done, _ = await asyncio.wait({ready}, timeout=PLACE_SAY_S)
            if not done:
                plural = "" if gpus == 1 else "s"
                text = (
                    f"no node has {gpus} free GPU{plural} now: waiting until one has (ray status shows who uses them)"
                )
                self._bench.recorder.event("warning", text)
            await self._or_end(ready)
        except BaseException:
            self._remove(place)
            raise
        return place

    async def _open(self, place: Any, gpus: int, lane: int) -> _Host:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(place, placement_group_bundle_index=0)
        actor = (
            trial_actor(self._ray)
            .options(num_cpus=TRTUNE_CPUS, num_gpus=gpus, scheduling_strategy=strategy, max_restarts=0)
            .remote(f"lane{lane}")
        )
        try:
            greeting: Greeting = await future_of(actor.greet.remote())
        except self._ray.exceptions.RayTaskError as error:
            raise NoCluster(
                f"a node cannot run trials: {telling_line(error)}; install trtune {self._version} there"
            ) from None
        if greeting.version != self._version:
            self._ray.kill(actor)
            raise NoCluster(
                f"node {greeting.host} has trtune {greeting.version} and this is {self._version}: use one version"
            )
        return _Host(lane, actor, place, gpus, greeting, await self._link(actor))

    async def _link(self, actor: Any) -> ClockLink:
        """Compare clocks: a node whose clock is off by any amount writes at the right times all the same."""
        clock, exchanges = self._bench.recorder.clock, []
        for _ in range(EXCHANGES):
            sent_ns = clock.now()
            theirs_ns = await future_of(actor.now.remote())
            exchanges.append((sent_ns, theirs_ns, clock.now()))
        return ClockLink.best_of(exchanges)

    async def _run_on(self, host: _Host, control: Control, order: Order, number: int) -> TrialResult:
        """Run a trial on a host and write what it records into the session as it comes.

        Raises:
            _Lost: If the host is gone.
        """
        bench = self._bench
        merge = Merge(bench.recorder, host.link.offset_ns, number)
        where = {
            "lane": f"lane{host.lane}",
            "host": host.greeting.host,
            "node": host.greeting.node,
            "gpus": list(host.greeting.gpus),
            "clock_error_ns": host.link.error_ns,
        }
        bench.recorder.event(PLACED, f"trial {number} runs on {host.greeting.host}", trial=number, data=where)
        wishes = _Wishes(control)
        try:
            running = future_of(host.actor.run.remote(bench.plan.model_dump(mode="json"), order, number))
            while not running.done():
                for name in wishes.new():
                    host.actor.wish.remote(name)
                merge.apply(await future_of(host.actor.take.remote()))
            result: TrialResult = await running
            merge.apply(await future_of(host.actor.take_now.remote()))
            if result.gate is not None:
                bench.on_gate(number, result.gate)
        except BaseException as error:
            self._release(host)
            if isinstance(error, self._ray.exceptions.RayActorError):
                raise _Lost(str(error)) from None
            if isinstance(error, self._ray.exceptions.RayTaskError):
                raise own_error(error) from None
            raise
        if self._waiting:
            self._release(host)  # a trial of another size waits for what it holds
        else:
            self._idle.append(host)
        return result

    async def _or_end(self, waiting: asyncio.Future[Any]) -> None:
        """Wait, unless the work is ended meanwhile.

        Raises:
            _Ended: If it is.
        """
        ending = asyncio.ensure_future(self._bench.control.stop.wait())
        await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not waiting.done():
            waiting.cancel()
            raise _Ended

    def _tell_lost(self, host: _Host, number: int) -> None:
        recorder = self._bench.recorder
        recorder.end_trial(number, "interrupted")
        recorder.event(
            "warning", f"node {host.greeting.host} is gone: trial {number} begins again elsewhere", trial=number
        )

    def _release(self, host: _Host) -> None:
        with contextlib.suppress(Exception):  # of a node that is gone nothing is left to release
            self._ray.kill(host.actor)
        self._forget(host.lane, host.place)

    def _forget(self, lane: int, place: Any) -> None:
        self._taken.discard(lane)
        self._remove(place)

    def _remove(self, place: Any) -> None:
        from ray.util.placement_group import remove_placement_group

        with contextlib.suppress(Exception):
            remove_placement_group(place)


@dataclass(slots=True)
class _Wishes:
    """What an operator wants of a trial on another host, as it changes."""

    control: Control
    _paused: bool = False
    _told: str = ""

    def new(self) -> list[str]:
        """What is wanted now and has not been passed on."""
        wishes = []
        if self.control.paused != self._paused:
            self._paused = self.control.paused
            wishes.append("pause" if self._paused else "resume")
        ending = "end" if self.control.stop.is_set() else "skip" if self.control.skipping else ""
        if ending and ending != self._told:
            self._told = ending
            wishes.append(ending)
        return wishes
