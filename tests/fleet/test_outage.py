"""Tuning on several lanes while the study's database goes away: a real PostgreSQL, and a fleet that finds that nothing works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from benchmarks.cluster.postgres import Postgres, binaries
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tuner.bench import Bench
from tuner.control import Control
from tuner.fleet.storage import SharedStorage
from tuner.gpu_watch import GpuWatch
from tuner.opening import open_bench
from tuner.plan import Plan
from tuner.server import Places
from tuner.trial import Order, TrialResult
from tuner.tune import TuneJob

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("postgres"),
    pytest.mark.skipif(binaries() is None, reason="no PostgreSQL here"),
]

PLAN = Plan.model_validate(
    {
        "engine": {"model": "llama-3.1-8b"},
        "gpu": {"local": False},
        "fleet": {"cluster": "nowhere:1", "side_by_side": 4},
        "search": {"trials": 2, "proof_rounds": 0, "sampler": "random"},
        "knobs": {"max_batch_size": [4, 8, 16, 32, 64]},
    }
)


class BarrenFleet:
    """Four lanes on which no configuration works, found out at once."""

    lanes = 4

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def room(self, gpus: int) -> int:
        return self.lanes

    async def run(self, order: Order, gpus: int, on_number: Callable[[int], None]) -> TrialResult:
        number = self._bench.recorder.start_trial(order.kind, order.params)
        on_number(number)
        self._bench.recorder.end_trial(number, "infeasible")
        return TrialResult(number, "infeasible")

    async def close(self) -> None:
        pass


@asynccontextmanager
async def job_without_its_database(folder: Path) -> AsyncIterator[tuple[TuneJob, Bench, Postgres]]:
    """A search on four lanes whose database has gone away since it was begun."""
    recorder, places = Recorder.create(folder / "run.trtune", {}), Places(folder, 0)
    with closing(Postgres()) as server:
        server.start()
        server.create()
        async with AsyncExitStack() as stack:
            stack.callback(recorder.close)
            bench = await open_bench(
                stack, PLAN, recorder, Control(), places, GpuWatch(PLAN.gpu, places, recorder, here=False)
            )
            shared = SharedStorage.open(server.url(), "outage")
            stack.callback(shared.close)
            job = TuneJob(bench, BarrenFleet(bench), storage=shared)
            server.stop()
            yield job, bench, server
            job.close()


async def test_lanes_that_wait_for_the_database_do_not_run_more_trials_than_the_budget(tmp_path: Path) -> None:
    async with job_without_its_database(tmp_path) as (job, _, server):
        running = asyncio.create_task(job.run())
        await asyncio.sleep(0.2)
        server.start()
        reason = await asyncio.wait_for(running, 60)

    assert reason == "all 2 trials are done"
    with SessionReader(tmp_path / "run.trtune") as reader:
        assert [trial.state for trial in reader.trials()] == ["infeasible"] * 2
        assert any("does not answer" in event.text for event in reader.events())


async def test_a_stop_does_not_wait_for_the_database(tmp_path: Path) -> None:
    async with job_without_its_database(tmp_path) as (job, bench, _):
        running = asyncio.create_task(job.run())
        await asyncio.sleep(0.2)
        bench.control.end()
        reason = await asyncio.wait_for(running, 60)

    assert reason == "stopped by the operator"
