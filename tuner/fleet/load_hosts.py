"""Generators on the nodes of a Ray cluster: further hosts that send load to one server, when this one is not enough."""

from __future__ import annotations

import asyncio
import functools
import os
import select
import time
from typing import TYPE_CHECKING, Any, Final

from tuner.fleet.forwarding import ClockLink
from tuner.fleet.ray_cluster import EXCHANGES, NoCluster, connect, telling_line
from tuner.load.errors import GeneratorLost
from tuner.load.process import OwnersEnd, end_generator, start_generator
from tuner.load.relayed import RelayedGenerator

if TYPE_CHECKING:
    from collections.abc import Callable

GET_S: Final = 0.05
CHUNK_BYTES: Final = 1 << 20
PLACE_S: Final = 60.0
CALLS_AT_ONCE: Final = 4
"""Of an actor: handing over, fetching, and asking for the time must not wait for each other."""


class GeneratorHost:
    """A generator of the node that this runs on, for an owner on another host. Lives in an actor."""

    def __init__(self) -> None:
        """Start the generator."""
        self._sock, self._process = start_generator()

    def greet(self) -> tuple[str, int]:
        """The node's name and the generator's process id."""
        return os.uname().nodename, self._process.pid

    def now(self) -> int:
        """CLOCK_MONOTONIC here, in ns."""
        return time.monotonic_ns()

    def put(self, data: bytes) -> None:
        """Hand bytes to the generator."""
        self._sock.sendall(data)

    def get(self) -> bytes:
        """Bytes from the generator; none when there are none within a moment."""
        readable, _, _ = select.select([self._sock], [], [], GET_S)
        if not readable:
            return b""
        data = self._sock.recv(CHUNK_BYTES)
        if not data:
            raise ConnectionError("the generator ended")
        return data

    def close(self) -> None:
        """End the generator."""
        self._sock.close()
        end_generator(self._process)


class _Carrier:
    """Carries messages through Ray to an actor and back."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def put(self, data: bytes) -> None:
        self._ray.get(self._actor.put.remote(data))

    def get(self) -> bytes:
        data: bytes = self._ray.get(self._actor.get.remote())
        return data

    def close(self) -> None:
        self._ray.kill(self._actor)


async def open_load_hosts(address: str, count: int) -> list[Callable[[], OwnersEnd]]:
    """Ways to open generators on so many different nodes of a cluster.

    Args:
        address: The cluster.
        count: Nodes, none of them this host's own generator.

    Raises:
        NoCluster: If the cluster does not answer, or has not that many nodes with a free CPU.
    """
    ray = await connect(address)
    from ray.util.placement_group import placement_group

    places = placement_group([{"CPU": 1}] * count, strategy="STRICT_SPREAD")
    if not await asyncio.to_thread(places.wait, PLACE_S):
        alive = sum(node["Alive"] for node in ray.nodes())
        raise NoCluster(f"load.hosts = {count}: the cluster has {alive} nodes, and not that many have a free CPU")
    return [functools.partial(_open, ray, places, place) for place in range(count)]


def _open(ray: Any, places: Any, place: int) -> RelayedGenerator:
    """Start a generator on its node and compare clocks.

    Raises:
        GeneratorLost: If it does not start there.
    """
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    strategy = PlacementGroupSchedulingStrategy(places, placement_group_bundle_index=place)
    options = {"num_cpus": 1, "max_concurrency": CALLS_AT_ONCE, "scheduling_strategy": strategy}
    actor = ray.remote(GeneratorHost).options(**options).remote()
    exchanges = []
    try:
        _, pid = ray.get(actor.greet.remote())
        for _ in range(EXCHANGES):
            sent_ns = time.monotonic_ns()
            theirs_ns = ray.get(actor.now.remote())
            exchanges.append((sent_ns, theirs_ns, time.monotonic_ns()))
    except ray.exceptions.RayError as error:
        raise GeneratorLost(f"no generator starts on a node of the cluster: {telling_line(error)}") from None
    return RelayedGenerator(_Carrier(ray, actor), ClockLink.best_of(exchanges).offset_ns, pid)
