"""Seats: disjoint GPUs for trials side by side, in turn, near each other where the topology is known."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.fleet.inventory import HostGpu
from tuner.fleet.seats import SeatPool, TooLarge, choose, cpu_share


def two_sockets(per_socket: int = 4, cpus_per_socket: int = 16) -> tuple[HostGpu, ...]:
    """A host with GPUs on two NUMA nodes."""
    return tuple(
        HostGpu(
            f"GPU-{node}{place}",
            index=node * per_socket + place,
            numa_node=node,
            cpus=frozenset(range(node * cpus_per_socket, (node + 1) * cpus_per_socket)),
        )
        for node in range(2)
        for place in range(per_socket)
    )


async def test_trials_side_by_side_never_share_a_gpu_or_a_cpu() -> None:
    pool = SeatPool(two_sockets(), lanes=8)

    seats = [await pool.take(2) for _ in range(4)]

    gpus = [gpu.uuid for seat in seats for gpu in seat.gpus]
    cpus = [cpu for seat in seats for cpu in seat.cpus]
    assert len(gpus) == len(set(gpus)) == 8
    assert len(cpus) == len(set(cpus)) == 32
    assert all(len({gpu.numa_node for gpu in seat.gpus}) == 1 for seat in seats)


async def test_a_trial_waits_until_enough_gpus_are_free_and_a_small_one_does_not_overtake_it() -> None:
    pool = SeatPool(two_sockets(), lanes=8)
    small = await pool.take(1)
    large = asyncio.create_task(pool.take(8))
    await asyncio.sleep(0)
    behind = asyncio.create_task(pool.take(1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not large.done()
    assert not behind.done()

    await pool.give_back(small)
    seat = await large

    assert len(seat.gpus) == 8
    await pool.give_back(seat)
    assert len((await behind).gpus) == 1


async def test_more_gpus_than_the_host_has_are_refused_at_once() -> None:
    pool = SeatPool(two_sockets())

    with pytest.raises(TooLarge, match="16 GPUs are asked for and this host has 8"):
        await pool.take(16)


@pytest.mark.parametrize(("gpus", "lanes", "each", "fit"), [(8, 8, 2, 4), (8, 3, 2, 3), (8, 8, 5, 1), (0, 3, 4, 3)])
def test_as_many_fit_side_by_side_as_can_sit_at_once(gpus: int, lanes: int, each: int, fit: int) -> None:
    assert SeatPool(two_sockets()[:gpus], lanes).room(each) == fit


async def test_without_known_gpus_only_the_number_of_lanes_counts() -> None:
    pool = SeatPool((), lanes=2)
    first, second = await pool.take(4), await pool.take(4)
    third = asyncio.create_task(pool.take(1))
    for _ in range(5):
        await asyncio.sleep(0)

    assert (first.lane, second.lane) == (0, 1)
    assert not third.done()
    await pool.give_back(first)
    assert (await third).lane == 0


async def test_a_trial_that_gives_up_waiting_leaves_the_queue() -> None:
    pool = SeatPool(two_sockets(), lanes=1)
    seat = await pool.take(8)
    waiting = asyncio.create_task(pool.take(1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    await pool.give_back(seat)

    assert (await asyncio.wait_for(pool.take(8), 1)).lane == 0


def test_a_small_trial_sits_where_it_breaks_up_the_least() -> None:
    gpus = two_sockets()
    free = gpus[:4] + gpus[6:]

    chosen = choose(free, 2)

    assert {gpu.numa_node for gpu in chosen} == {1}


@given(st.integers(1, 8), st.sets(st.integers(0, 7), min_size=1))
def test_what_is_chosen_is_free_and_as_many_as_asked(count: int, free_places: set[int]) -> None:
    free = tuple(gpu for gpu in two_sockets() if gpu.index in free_places)

    chosen = choose(free, min(count, len(free)))

    assert len({gpu.uuid for gpu in chosen}) == min(count, len(free))
    assert set(chosen) <= set(free)


def test_no_cpus_are_set_apart_where_the_topology_is_not_known() -> None:
    unknown = (HostGpu("GPU-a", 0), HostGpu("GPU-b", 1))

    assert cpu_share(unknown[:1], unknown) == ()
