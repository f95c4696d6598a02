"""Load from several hosts: a generator whose clock is an hour ahead, in one level with one of this host."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.load.levels import good, run_level
from tests.load.servers import serving
from tuner.load.generator import LoadGenerator
from tuner.load.hotpath import frames
from tuner.load.process import OwnersEnd, end_generator, start_generator
from tuner.load.relayed import RelayedGenerator, inward, outward
from tuner.load.spec import Level, StopRule

HOUR_NS = 3_600_000_000_000
AHEAD = ("unshare", "--time", "--monotonic", "3600", "--fork")
"""Starts a program in a time namespace of its own: its CLOCK_MONOTONIC really is an hour ahead (time_namespaces(7))."""


def can_move_clocks() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return subprocess.run([*AHEAD, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Pipe:
    """Carries messages to a generator of this host, which another clock makes one of another host."""

    def __init__(self) -> None:
        self._sock, self._process = start_generator(AHEAD)

    def put(self, data: bytes) -> None:
        self._sock.sendall(data)

    def get(self) -> bytes:
        readable, _, _ = select.select([self._sock], [], [], 0.05)
        data = self._sock.recv(1 << 20) if readable else b""
        if readable and not data:
            raise ConnectionError("the generator has ended")
        return data

    def close(self) -> None:
        self._sock.close()
        end_generator(self._process)


@pytest.mark.skipif(not can_move_clocks(), reason="this system lets nobody make a time namespace")
async def test_requests_of_hosts_with_different_clocks_come_together_on_one() -> None:
    opened: list[OwnersEnd] = []

    def elsewhere() -> OwnersEnd:
        opened.append(RelayedGenerator(Pipe(), -HOUR_NS))
        return opened[-1]

    further: list[Callable[[], OwnersEnd]] = [elsewhere]
    begun_ns = time.monotonic_ns()
    async with LoadGenerator(further) as generator, serving(good) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 8), stop=StopRule(max_requests=80, max_s=None))
        ended_ns = outcome.clock.now()

    table, result = outcome.table, outcome.value
    assert len(opened) == 1
    assert result.generator_processes == 2
    assert result.valid, result.reasons
    assert sorted(table.index.tolist()) == list(range(len(table)))
    assert len(seen.bodies) == len(table) >= 80
    first_ns = begun_ns - outcome.clock.base_monotonic_ns
    for times in (table.sent_ns, table.first_ns, table.last_ns, table.end_ns):
        assert first_ns <= times.min() <= times.max() <= ended_ns
    assert (table.sent_ns < table.first_ns).all()
    assert (table.last_ns <= table.end_ns).all()
    assert table.lag_first_us.max() < 10_000_000
    assert result.metrics["ttft"]["max"] < 60_000


def test_only_times_are_moved() -> None:
    head = frames.HEAD_FIELDS.pack(200, 1)

    assert inward(frames.HEAD, head, HOUR_NS) == head
    assert outward(frames.ITEM, b"x", HOUR_NS) == b"x"
    assert outward(frames.START, b"5", -HOUR_NS) == str(5 + HOUR_NS).encode()
