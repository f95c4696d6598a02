"""Real time: tokens arrive when they are due, and a process that cannot keep up says so."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from engines.simulated.pacing import PacedEngine
from tests.engines.simulated.sim_builders import request, tiny_simulation

if TYPE_CHECKING:
    from engines.simulated.model import RequestState


class Recorder:
    """Notes when tokens come."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.done = asyncio.Event()

    def token(self, state: RequestState) -> None:
        """Take a token."""
        self.times_s.append(asyncio.get_running_loop().time())
        if state.finish_reason is not None:
            self.done.set()


async def test_tokens_keep_the_virtual_rhythm_without_drift() -> None:
    simulation = tiny_simulation()
    engine = PacedEngine(simulation, speed=0.05)  # twenty times slower than life, so that timers are precise enough
    task = asyncio.create_task(engine.run())
    recorder = Recorder()
    await asyncio.sleep(0)

    state = engine.submit(request(20, max_tokens=10), recorder)
    await recorder.done.wait()
    task.cancel()

    virtual_s = ((state.last_token_ms or 0.0) - (state.first_token_ms or 0.0)) / 1e3 / 0.05
    real_s = recorder.times_s[-1] - recorder.times_s[0]
    assert len(recorder.times_s) == 10
    assert real_s > 0.8 * virtual_s


async def test_idle_time_passes_in_the_simulation_too() -> None:
    simulation = tiny_simulation()
    engine = PacedEngine(simulation)
    task = asyncio.create_task(engine.run())
    await asyncio.sleep(0.05)

    state = engine.submit(request(20), Recorder())
    task.cancel()

    assert state.arrival_ms >= 45


async def test_an_aborted_request_is_heard_of_no_more() -> None:
    simulation = tiny_simulation()
    engine = PacedEngine(simulation)
    task = asyncio.create_task(engine.run())
    aborted, other = Recorder(), Recorder()
    await asyncio.sleep(0)

    state = engine.submit(request(20, max_tokens=50), aborted)
    engine.submit(request(20, max_tokens=5), other)
    engine.abort(state)
    await other.done.wait()
    task.cancel()

    assert aborted.times_s == []


async def test_a_blocked_process_reports_how_far_it_is_behind() -> None:
    engine = PacedEngine(tiny_simulation())
    task = asyncio.create_task(engine.run())
    recorder = Recorder()
    await asyncio.sleep(0)

    engine.submit(request(20, max_tokens=30), recorder)
    await asyncio.sleep(0.005)
    time.sleep(0.2)  # noqa: ASYNC251  # blocking the loop is what is tested
    await recorder.done.wait()
    task.cancel()

    assert engine.lag.worst_ms > 100
    assert 0 < engine.lag.late_iterations <= engine.lag.iterations
