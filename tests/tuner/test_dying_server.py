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
from tuner.server import Places
from tuner.trial import Order, TrialResult, every_level, run_trial

if TYPE_CHECKING:
    from engines.base import ServerInfo
    from engines.launch.base import RunningServer
    from tuner.bench import Bench


async def run_and_kill(folder: Path, *, asked_again: bool) -> TrialResult:
    """A trial whose server is killed between ready and measured; `asked_again`: a question meets the dead server first."""
    plan = Plan.model_validate(tomllib.loads(PLAN.format(python=sys.executable, more="")))
    plan = plan.model_copy(update={"gpu": plan.gpu.model_copy(update={"dcgm_url": ""})})
    recorder = Recorder.create(folder / "run.trtune", {})
    places = Places(folder, 0)

    async def kill(bench: Bench, _number: int, server: RunningServer, _info: ServerInfo) -> None:
        for pid in server.pids:
            os.kill(pid, signal.SIGKILL)
        if asked_again:
            await bench.engine.inspect(bench.http, server.url)

    async with AsyncExitStack() as stack:
        stack.callback(recorder.close)
        gpus = GpuWatch(plan.gpu, places, recorder)
        bench = await open_bench(stack, plan, recorder, Control(), places, gpus)
        return await run_trial(bench, Order("search", {}, every_level((2,)), gate=kill))


@pytest.mark.parametrize("asked_again", [False, True], ids=["its-level-fails", "a-question-fails"])
async def test_a_server_killed_under_its_trial_has_died(tmp_path: Path, asked_again: bool) -> None:
    result = await run_and_kill(tmp_path, asked_again=asked_again)

    assert result.failure is not None
    assert result.failure.kind == "died"
    assert "SIGKILL" in result.failure.text
    assert result.state == "failed", "an end from outside is not the configuration's fault"
