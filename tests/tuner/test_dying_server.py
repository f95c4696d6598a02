"""A server that dies under its trial is called dead, whatever it was that noticed first."""

from __future__ import annotations

import os
import signal
import sys
import tomllib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sessions.recorder import Recorder
from tests.trtune.conftest import PLAN
from tuner.control import Control
from tuner.gpu_watch import GpuWatch
from tuner.opening import open_bench
from tuner.plan import Plan
from tuner.quality.checking import QualityQuestion
from tuner.server import Places
from tuner.trial import Order, TrialResult, every_level, run_trial

if TYPE_CHECKING:
    from engines.base import ServerInfo
    from engines.launch.base import RunningServer
    from tuner.bench import Bench
    from tuner.quality.checking import GateAnswer


async def run_and_kill(folder: Path, then: str) -> TrialResult:
    """A trial whose server is killed between ready and measured; `then`: what meets the dead server first."""
    plan = Plan.model_validate(tomllib.loads(PLAN.format(python=sys.executable, more="")))
    plan = plan.model_copy(update={"gpu": plan.gpu.model_copy(update={"dcgm_url": ""})})
    recorder = Recorder.create(folder / "run.trtune", {})
    places = Places(folder, 0)

    async def kill(bench: Bench, number: int, server: RunningServer, info: ServerInfo) -> GateAnswer | None:
        for pid in server.pids:
            os.kill(pid, signal.SIGKILL)
        if then == "a-question":
            await bench.engine.inspect(bench.http, server.url)
        return await QualityQuestion(("Count.",))(bench, number, server, info) if then == "the-gate" else None

    async with AsyncExitStack() as stack:
        stack.callback(recorder.close)
        gpus = GpuWatch(plan.gpu, places, recorder)
        bench = await open_bench(stack, plan, recorder, Control(), places, gpus)
        return await run_trial(bench, Order("search", {}, every_level((2,)), gate=kill))


@pytest.mark.parametrize("then", ["its-level", "a-question", "the-gate"])
async def test_a_server_killed_under_its_trial_has_died(tmp_path: Path, then: str) -> None:
    result = await run_and_kill(tmp_path, then)

    assert result.failure is not None
    assert result.failure.kind == "died"
    assert "SIGKILL" in result.failure.text
    assert result.gate is None, "it tells nothing of the model"
    assert result.state == "failed", "an end from outside is not the configuration's fault"
