"""Who sits on which GPUs: disjoint sets for trials that run side by side, close together where the topology is known.

Trials side by side run on numbered lanes, which is what session and screen tell them apart by; a seat is what the host gives to
the trial on a lane: GPUs and CPUs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuner.fleet.inventory import HostGpu


class TooLarge(ValueError):
    """A trial wants more GPUs than there are."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What one trial may use.

    Attributes:
        lane: Number of the lane of the trial that has it, from 0: no two that are taken at the same time have the same.
        gpus: Its GPUs; empty when the host's GPUs are not known.
        cpus: CPUs its server should keep to; empty: all.
    """

    lane: int
    gpus: tuple[HostGpu, ...] = ()
    cpus: tuple[int, ...] = ()


@dataclass(slots=True)
class SeatPool:
    """The seats of one host. Trials wait for theirs in the order in which they asked, so that a large one is never starved.

    Attributes:
        gpus: GPUs to give out; empty: they are not known, and only the number of lanes counts.
        lanes: Trials side by side at most.
    """

    gpus: tuple[HostGpu, ...]
    lanes: int = 1
    _taken: dict[int, Seat] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def room(self, gpu_count: int) -> int:
        """How many trials of so many GPUs fit side by side."""
        return min(self.lanes, len(self.gpus) // max(gpu_count, 1)) if self.gpus else self.lanes

    async def take(self, gpu_count: int) -> Seat:
        """Wait for a seat with so many GPUs.

        Raises:
            TooLarge: If the host never has that many.
        """
        if self.gpus and gpu_count > len(self.gpus):
            raise TooLarge(f"{gpu_count} GPUs are asked for and this host has {len(self.gpus)}")
        async with self._turn, self._changed:
            await self._changed.wait_for(lambda: self._fits(gpu_count))
            lane = next(number for number in range(self.lanes) if number not in self._taken)
            chosen = choose(self._free(), gpu_count) if self.gpus else ()
            seat = Seat(lane, chosen, cpu_share(chosen, self.gpus))
            self._taken[lane] = seat
            return seat

    async def give_back(self, seat: Seat) -> None:
        """Let others have a seat."""
        async with self._changed:
            self._taken.pop(seat.lane, None)
            self._changed.notify_all()

    def _free(self) -> tuple[HostGpu, ...]:
        taken = {gpu.uuid for seat in self._taken.values() for gpu in seat.gpus}
        return tuple(gpu for gpu in self.gpus if gpu.uuid not in taken)

    def _fits(self, gpu_count: int) -> bool:
        return len(self._taken) < self.lanes and (not self.gpus or len(self._free()) >= gpu_count)


def choose(free: Sequence[HostGpu], gpu_count: int) -> tuple[HostGpu, ...]:
    """So many of the free GPUs: on one NUMA node where one has enough, on the fullest nodes else.

    Among the nodes that have enough the one with the fewest free GPUs gives them, so that large trials find room later.
    """
    nodes = _by_node(free)
    enough = [gpus for gpus in nodes if len(gpus) >= gpu_count]
    if enough:
        return tuple(min(enough, key=len)[:gpu_count])
    spread = [gpu for gpus in sorted(nodes, key=len, reverse=True) for gpu in gpus]
    return tuple(spread[:gpu_count])


def cpu_share(chosen: Sequence[HostGpu], gpus: Sequence[HostGpu]) -> tuple[int, ...]:
    """The CPUs for a server on these GPUs: each GPU brings its even share of its node's CPUs.

    Empty when a GPU's node or its CPUs are not known, or there are more GPUs than CPUs: then nothing is set apart.
    """
    cpus: list[int] = []
    for gpu in chosen:
        neighbours = sorted((other for other in gpus if other.numa_node == gpu.numa_node), key=lambda each: each.index)
        mine = sorted(gpu.cpus)
        share = len(mine) // len(neighbours)
        if gpu.numa_node is None or share == 0:
            return ()
        place = neighbours.index(gpu)
        cpus += mine[place * share : (place + 1) * share]
    return tuple(sorted(cpus))


def _by_node(gpus: Iterable[HostGpu]) -> list[list[HostGpu]]:
    """GPUs of one NUMA node together; those of unknown nodes together too."""

    def node(gpu: HostGpu) -> int:
        return -1 if gpu.numa_node is None else gpu.numa_node

    return [list(group) for _, group in groupby(sorted(gpus, key=lambda gpu: (node(gpu), gpu.index)), key=node)]
