"""Levels from end to end: the real generator process against a good server."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pytest

from sessions.columns import LOAD_COLUMNS
from sessions.requests import ClockKind, RequestStatus
from sessions.slo import Slo
from tests.load.levels import SMALL, good, run_level
from tests.load.servers import Exchange, serving
from tuner.load.generator import LoadGenerator
from tuner.load.lengths import Fixed
from tuner.load.spec import Arrivals, Cancel, Level, Limits, StopRule, Turns


async def test_a_hundred_requests_means_a_hundred(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 8), stop=StopRule(max_requests=100, max_s=None))
    table, result = outcome.table, outcome.value
    assert len(seen.bodies) == len(table) == 100
    assert sorted(table.index.tolist()) == list(range(100))
    assert (table.status == RequestStatus.OK).all()
    assert result.metrics["requests"]["avg"] == 100
    assert result.stopped_by == "requests"
    assert (table.osl_tokens == 5).all()
    assert (table.isl_tokens == 7).all()
    assert (table.chunks > 0).all()


async def test_connections_are_opened_before_and_reused(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 4), stop=StopRule(max_requests=40, max_s=None))
    connections = outcome.value.connections
    assert connections.opened == 4
    assert connections.reused == 36
    assert connections.resent == 0
    # One more looked whether the server is there.
    assert seen.connections == 5


async def test_times_are_in_order_on_the_session_clock(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url)
        after_ns = outcome.clock.now()
    table = outcome.table
    assert (table.scheduled_ns == table.sent_ns).all()
    assert (table.sent_ns > 0).all()
    assert (table.sent_ns < table.first_ns).all()
    assert (table.first_ns < table.last_ns).all()
    assert (table.last_ns <= table.end_ns).all()
    assert (table.end_ns < after_ns).all()
    assert (np.diff(table.chunk_us)[np.diff(np.repeat(table.index, table.chunks)) == 0] >= 0).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernel receive times are Linux's")
async def test_tokens_carry_the_kernels_time_and_our_own_lag(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url)
    assert outcome.value.clock == "kernel"
    assert (outcome.table.clock == ClockKind.KERNEL).all()
    assert (outcome.table.lag_first_us >= 0).all()
    assert outcome.value.client_lag_p99_ms >= 0


async def test_an_open_loop_sends_on_schedule_while_the_server_is_slow(generator: LoadGenerator) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.whole(0.2)

    workload = SMALL.model_copy(update={"arrivals": Arrivals(pattern="constant")})
    async with serving(slow) as (url, _):
        outcome = await run_level(
            generator,
            url,
            Level("rate", 50),
            workload,
            StopRule(max_requests=50, max_s=None),
            Limits(drain_timeout_s=10),
        )
    table = outcome.table
    order = np.argsort(table.index)
    assert np.diff(table.scheduled_ns[order]) == pytest.approx(20_000_000, abs=2)
    assert outcome.value.metrics["schedule_lag"]["p50"] < 20
    assert outcome.value.metrics["ttft"]["min"] >= 200
    assert (table.sent_ns >= table.scheduled_ns).all()


async def test_progress_is_told_while_a_level_runs(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(
            generator, url, Level("concurrency", 4), stop=StopRule(max_s=2.5, min_s=0, warmup_requests=3)
        )
    assert len(outcome.progress) >= 5
    phases = [progress.phase for progress in outcome.progress]
    assert set(phases) <= {"warm-up", "measure", "drain"}
    last = outcome.progress[-1]
    assert last.done_total == (outcome.table.status == RequestStatus.OK).sum()
    assert last.failed_total == 0
    assert last.output_tokens_total >= 5 * last.done_total
    assert last.concurrency == 4
    assert np.isnan(last.rate)
    live = outcome.progress[-2]
    assert live.output_tps > 0
    assert live.ttft_p50_ms > 0
    assert live.itl_p99_ms >= live.itl_p50_ms > 0
    assert all(isinstance(getattr(live, column.name), int | float) for column in LOAD_COLUMNS)


async def test_the_warm_up_is_recorded_and_not_counted(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(
            generator, url, Level("concurrency", 2), stop=StopRule(warmup_requests=10, max_requests=30, max_s=None)
        )
    assert len(seen.bodies) == len(outcome.table) == 40
    assert outcome.value.metrics["requests"]["avg"] == 30
    inside = outcome.table.end_ns > outcome.value.window_start_ns
    assert inside.sum() == 30


async def test_a_time_limit_closes_the_window_and_what_is_in_flight_is_recorded(generator: LoadGenerator) -> None:
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, Level("concurrency", 4), stop=StopRule(max_s=0.6, min_s=0))
    result = outcome.value
    assert result.stopped_by == "time"
    assert 300_000_000 <= result.window_end_ns - result.window_start_ns <= 600_000_000
    assert result.metrics["requests"]["avg"] % 4 == 0, "whole rounds only"
    assert len(outcome.table) == len(seen.bodies)
    assert (outcome.table.end_ns > result.window_end_ns).any()


async def test_the_window_of_an_open_loop_is_as_long_as_it_was_told(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url, Level("rate", 50), stop=StopRule(max_s=0.6, min_s=0))
    assert outcome.value.window_end_ns - outcome.value.window_start_ns == 600_000_000


async def test_precision_closes_the_window(generator: LoadGenerator) -> None:
    stop = StopRule(precision=0.2, min_s=1, min_requests=20, max_s=30)
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url, Level("concurrency", 4), stop=stop)
    assert outcome.value.stopped_by == "precision"
    assert outcome.value.relative_half_width is not None
    assert outcome.value.relative_half_width <= 0.2


async def test_a_level_can_be_stopped(generator: LoadGenerator) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.4, event.set)
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url, stop=StopRule(max_s=600), stop_event=event)
    assert outcome.value.stopped_by == "stopped"


async def test_a_cancelled_level_leaves_the_generator_usable(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        task = asyncio.create_task(run_level(generator, url, stop=StopRule(max_s=600)))
        await asyncio.sleep(0.4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        outcome = await run_level(generator, url)
    assert len(outcome.table) == 4


async def test_the_share_of_requests_that_meet_the_slos_is_told_while_a_level_runs(generator: LoadGenerator) -> None:
    async def every_third_late(exchange: Exchange) -> None:
        await exchange.whole(0.2 if exchange.number % 3 == 0 else 0.001)

    slos = [Slo.parse("e2e:p99:<=:500"), Slo.parse("error_ratio:avg:<=:0.5")]
    async with serving(every_third_late) as (url, _):
        outcome = await run_level(generator, url, Level("concurrency", 3), stop=StopRule(max_s=3.0, min_s=0), slos=slos)
    told = [progress.slo_met_ratio for progress in outcome.progress if not np.isnan(progress.slo_met_ratio)]
    assert told[0] > told[-1]
    assert 0 < told[-1] < 1


async def test_without_slos_on_requests_no_share_is_told(generator: LoadGenerator) -> None:
    stop = StopRule(max_s=1.5, min_s=0)
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url, stop=stop, slos=[Slo.parse("error_ratio:avg:<=:0.5")])
    assert all(np.isnan(progress.slo_met_ratio) for progress in outcome.progress)


async def test_goodput_counts_what_meets_the_slos(generator: LoadGenerator) -> None:
    async with serving(good) as (url, _):
        outcome = await run_level(generator, url, slos=[Slo.parse("ttft:60000"), Slo.parse("e2e:0.001")])
    assert outcome.value.metrics["goodput"]["avg"] == 0


async def test_conversations_wait_for_the_answer_and_think(generator: LoadGenerator) -> None:
    workload = SMALL.model_copy(update={"turns": Turns(count=Fixed(tokens=3), think_s=0.1, history="server")})
    async with serving(good) as (url, seen):
        outcome = await run_level(generator, url, workload=workload, stop=StopRule(max_requests=6, max_s=None))
    table = outcome.table
    assert len(table) == 6
    for session in np.unique(table.session):
        rows = np.flatnonzero(table.session == session)
        rows = rows[np.argsort(table.turn[rows])]
        assert table.turn[rows].tolist() == [0, 1, 2]
        assert (table.sent_ns[rows][1:] - table.end_ns[rows][:-1] >= 100_000_000).all()
    assert "\naaaaa\n" in seen.bodies[1]["prompt"]


async def test_a_failed_turn_ends_its_conversation_and_others_take_its_place(generator: LoadGenerator) -> None:
    async def failing_once(exchange: Exchange) -> bool:
        if exchange.number == 1:
            await exchange.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            return False
        await exchange.whole()
        return False

    workload = SMALL.model_copy(update={"turns": Turns(count=Fixed(tokens=3))})
    async with serving(failing_once) as (url, _):
        outcome = await run_level(generator, url, workload=workload, stop=StopRule(max_requests=7, max_s=None))
    assert len(outcome.table) == 7
    broken = outcome.table.session[outcome.table.status == RequestStatus.HTTP][0]
    assert outcome.table.turn[outcome.table.session == broken].max() == 1


async def test_a_share_of_clients_gives_up(generator: LoadGenerator) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.whole(0.1)

    workload = SMALL.model_copy(update={"cancel": Cancel(share_ratio=1.0, after_min_s=0.2, after_max_s=0.2)})
    async with serving(slow) as (url, _):
        outcome = await run_level(generator, url, workload=workload, stop=StopRule(max_requests=2, max_s=None))
    table = outcome.table
    assert (table.status == RequestStatus.CANCELLED).all()
    assert (table.end_ns - table.sent_ns >= 200_000_000).all()
    assert (table.chunks >= 1).all()
    assert outcome.value.metrics["cancelled_ratio"]["avg"] == 1.0
    assert not outcome.value.valid
