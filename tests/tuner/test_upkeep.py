"""The servers of trials side by side: which are up, and whose processes are the server's."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from sessions.recorder import Recorder
from tuner.bench import Bench
from tuner.control import Control
from tuner.gpu_watch import GpuWatch
from tuner.opening import open_bench
from tuner.plan import Plan
from tuner.server import Places

PLAN = Plan.model_validate(
    {
        "engine": {
            "model": "llama-3.1-8b",
            "command": [sys.executable, "-m", "engines.simulated"],
            "arguments": ["--sim-gpu", "h100-sxm", "--sim-time-scale", "0.001"],
        },
        "gpu": {"local": False},
    }
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    recorder, places = Recorder.create(tmp_path / "run.trtune", {}), Places(tmp_path, 0)
    async with AsyncExitStack() as stack:
        stack.callback(recorder.close)
        watch = GpuWatch(PLAN.gpu, places, recorder, here=False)
        yield await open_bench(stack, PLAN, recorder, Control(), places, watch)


async def test_the_servers_of_other_lanes_are_known_while_they_are_up(bench: Bench) -> None:
    shared = bench.upkeep
    lane = replace(shared, keeps=False)
    number = bench.recorder.start_trial("search", {})

    server = await lane.bring(number, {})
    up, pids = list(shared.up), [pid for each in shared.up for pid in each.pids]
    await lane.give_back(number, server, {}, well=True)

    assert up == [lane]
    assert pids
    assert set(pids) == set(server.pids) or not server.pids
    assert shared.up == []
