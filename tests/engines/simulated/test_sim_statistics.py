"""Delivery of iteration records: read once, three regimes, buffers that drop silently."""

from __future__ import annotations

import asyncio

import pytest

from engines.simulated.faults import Faults
from engines.simulated.trtllm import statistics
from engines.simulated.trtllm.arguments import validate_arguments
from engines.simulated.trtllm.iteration_records import IterationRecord
from engines.simulated.trtllm.statistics import Regime, StatisticsBuffers, regime_of
from engines.simulated.trtllm.versions import ServerVersion
from tests.engines.simulated.sim_builders import request, tiny_simulation
from tests.engines.simulated.sim_server import Running, running_server

BOTH = {"enable_iter_perf_stats": True, "return_perf_metrics": True}


def buffers(version: str, **settings: object) -> tuple[StatisticsBuffers, list[IterationRecord]]:
    """Build buffers and the list the background collector fills."""
    collected: list[IterationRecord] = []
    parsed = ServerVersion.parse(version)
    arguments = validate_arguments(dict(settings), parsed)
    return StatisticsBuffers(arguments, parsed, collected.append, wait_s=0.01), collected


def records(count: int, start_s: float = 0.0) -> list[IterationRecord]:
    """Make records ten milliseconds apart."""
    simulation = tiny_simulation()
    simulation.submit(request(20, max_tokens=2))
    iteration = simulation.step()
    return [IterationRecord(iteration, start_s + n * 0.01, simulation.kv, 0.0, 0.0, 0, n, 0) for n in range(count)]


@pytest.mark.parametrize(
    ("version", "settings", "regime"),
    [
        ("1.3.0rc20", {}, Regime.DISABLED),
        ("1.3.0rc20", {"enable_iter_perf_stats": True}, Regime.DIRECT),
        ("1.3.0rc20", BOTH, Regime.TEE),
        ("1.3.0rc12", BOTH, Regime.RACING),
        ("1.2.1", BOTH, Regime.RACING),
        ("1.1.0", BOTH, Regime.DIRECT),
    ],
)
def test_the_regime_follows_version_and_settings(version: str, settings: dict[str, bool], regime: Regime) -> None:
    parsed = ServerVersion.parse(version)

    assert regime_of(validate_arguments(dict(settings), parsed), parsed) is regime


async def test_a_direct_read_consumes() -> None:
    store, _ = buffers("1.3.0rc20", enable_iter_perf_stats=True)
    for record in records(3):
        store.append(record)

    first = await store.read()

    assert [record.sequence for record in first] == [0, 1, 2]
    assert await store.read() == []


async def test_the_engine_buffer_drops_the_oldest_record() -> None:
    store, _ = buffers("1.3.0rc20", enable_iter_perf_stats=True, max_stats_len=2)
    for record in records(5):
        store.append(record)

    assert [record.sequence for record in await store.read()] == [3, 4]
    assert store.dropped == 3


async def test_tee_shows_nothing_until_a_request_completes() -> None:
    store, collected = buffers("1.3.0rc20", **BOTH)
    for record in records(3):
        store.append(record)

    assert await store.read() == []
    store.request_completed()

    assert [record.sequence for record in await store.read()] == [0, 1, 2]
    assert len(collected) == 3
    assert await store.read() == []


async def test_tee_falls_asleep_after_a_pause() -> None:
    store, _ = buffers("1.3.0rc20", **BOTH)
    store.request_completed()
    store.append(records(1)[0])
    store.append(records(1, start_s=5.0)[0])

    assert len(await store.read()) == 1


async def test_tee_keeps_as_many_records_as_the_http_side_may() -> None:
    store, collected = buffers("1.3.0rc20", **BOTH, iter_stats_max_iterations=2)
    for record in records(5):
        store.append(record)
    store.request_completed()

    assert [record.sequence for record in await store.read()] == [3, 4]
    assert len(collected) == 5


async def test_racing_loses_records_to_the_collector_but_none_is_seen_twice() -> None:
    store, collected = buffers("1.2.1", **BOTH)
    store.request_completed()
    for record in records(200):
        store.append(record)

    read = await store.read()

    assert 0 < len(read) < 100
    assert sorted(record.sequence for record in [*read, *collected]) == list(range(200))


async def measure_read(server: Running) -> float:
    """Return how long one ``GET /metrics`` takes."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await server.get("/metrics")
    return loop.time() - start


async def test_a_direct_read_takes_two_seconds_and_a_tee_read_does_not() -> None:
    async with running_server("1.3.0rc20", {"enable_iter_perf_stats": True}) as server:
        await server.complete()
        assert await measure_read(server) >= statistics.WAIT_S
    async with running_server("1.3.0rc20", BOTH) as server:
        await server.complete()
        assert await measure_read(server) < statistics.WAIT_S


async def test_a_slow_metrics_fault_delays_the_answer() -> None:
    async with running_server("1.3.0rc20", BOTH, Faults(slow_metrics_s=0.4)) as server:
        assert await measure_read(server) >= 0.4


async def test_records_of_1_3_tell_queue_batch_and_step_times() -> None:
    async with running_server("1.3.0rc28", BOTH) as server:
        await server.complete(tokens=5, prompt_tokens=40)
        first, *later = await server.get_json("/metrics")

    assert first["iter"] > 0
    assert first["inflightBatchingStats"]["numContextRequests"] == 1
    assert first["inflightBatchingStats"]["numCtxTokens"] == 40
    assert [record["inflightBatchingStats"]["numGenRequests"] for record in later] == [1, 1, 1, 1]
    assert later[-1]["numCompletedRequests"] == 1
    assert later[0]["iterLatencyMS"] == pytest.approx(later[0]["hostStepTimeMS"] + first["hostStepTimeMS"])
    assert [record["statsSequence"] for record in [first, *later]] == [0, 1, 2, 3, 4]
    assert first["kvCacheStats"]["maxNumBlocks"] == 4096 // 32
    assert first["kvCacheIterationStats"]["512"]["iterAllocNewBlocks"] == 2
