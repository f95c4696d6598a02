"""Trials side by side on this host: each with GPUs, CPUs, port, caches and load generator of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.launch.ports import free_port
from tuner.errors import BadPlan
from tuner.fleet.caches import cache_environment
from tuner.fleet.seats import SeatPool, TooLarge
from tuner.load.generator import LoadGenerator
from tuner.trial import run_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tuner.bench import Bench
    from tuner.control import Control
    from tuner.fleet.inventory import HostGpu
    from tuner.fleet.seats import Seat
    from tuner.trial import Order, TrialResult


class LocalFleet:
    """Runs trials on this host.

    Attributes:
        lanes: Trials side by side at most.
    """

    def __init__(
        self,
        bench: Bench,
        gpus: tuple[HostGpu, ...],
        lanes: int,
        environment: Mapping[str, str],
        *,
        restricted: bool = False,
    ) -> None:
        """Prepare.

        Args:
            bench: What every trial shares.
            gpus: GPUs to give out; empty: they are not known, and trials get no GPUs of their own.
            lanes: Trials side by side at most.
            environment: Variables in force: caches that are set there stay as they are.
            restricted: Whether the host has other GPUs that must be left alone.
        """
        self.lanes = lanes
        self._bench = bench
        self._apart = lanes > 1 or restricted
        self._pool = SeatPool(gpus if self._apart else (), lanes)
        self._environment = environment
        self._generators: dict[int, LoadGenerator] = {0: bench.load}
        self._stack = AsyncExitStack()

    def room(self, gpus: int) -> int:
        """How many trials of so many GPUs each can run at the same time."""
        return self._pool.room(gpus)

    async def run(self, order: Order, gpus: int, on_number: Callable[[int], None]) -> TrialResult:
        """Run a trial as soon as there is a seat for it.

        Args:
            order: What is to be run.
            gpus: GPUs it needs.
            on_number: Told the trial's number in the session before anything is started.

        Raises:
            BadPlan: If this host never has that many GPUs.
        """
        try:
            seat = await self._pool.take(gpus)
        except TooLarge as error:
            raise BadPlan(str(error)) from None
        try:
            if not self._apart:
                return await run_trial(self._bench, order, on_number)
            with self._bench.control.child() as control:
                return await run_trial(await self._bench_on(seat, control), order, on_number)
        finally:
            await self._pool.give_back(seat)

    async def close(self) -> None:
        """End the load generators of the lanes."""
        await self._stack.aclose()

    async def _bench_on(self, seat: Seat, control: Control) -> Bench:
        """What the trial that has a seat works with: what all share, and what only its lane and its seat have."""
        shared = self._bench
        if seat.lane not in self._generators:
            self._generators[seat.lane] = await self._stack.enter_async_context(LoadGenerator())
        places = replace(
            shared.upkeep.places,
            spare_port=free_port("127.0.0.1") if seat.lane else shared.upkeep.places.spare_port,
            gpus=tuple(gpu.uuid for gpu in seat.gpus if not gpu.pretend),
            cpus=seat.cpus,
            environment=cache_environment(seat.lane, self._environment),
        )
        return replace(
            shared,
            control=control,
            load=self._generators[seat.lane],
            upkeep=replace(shared.upkeep, plan=shared.plan, control=control, places=places, keeps=False),
            lane=f"lane{seat.lane}" if seat.lane else "",
            gpu_uuids=places.gpus,
        )
