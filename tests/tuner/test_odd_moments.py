"""What an operator wants at an odd moment of a trial: while its server stops, while it is held, while its gate asks."""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tests.trtune.conftest import PLAN
from tuner.bench import Bench
from tuner.control import Control
from tuner.gpu_watch import GpuWatch
from tuner.opening import open_bench
from tuner.plan import Plan
from tuner.server import Places
from tuner.trial import Order, every_level, run_trial
from tuner.upkeep import Upkeep

WAIT_S = 60.0


@asynccontextmanager
async def bench_in(folder: Path) -> AsyncIterator[Bench]:
    plan = Plan.model_validate(tomllib.loads(PLAN.format(python=sys.executable, more="")))
    plan = plan.model_copy(update={"gpu": plan.gpu.model_copy(update={"dcgm_url": ""})})
    recorder = Recorder.create(folder / "run.trtune", {})
    places = Places(folder, 0)
    async with AsyncExitStack() as stack:
        stack.callback(recorder.close)
        yield await open_bench(stack, plan, recorder, Control(), places, GpuWatch(plan.gpu, places, recorder))


def while_the_server_stops(monkeypatch: pytest.MonkeyPatch, wish: Callable[[Control], object]) -> None:
    """Have an operator wish something when a trial gives its server back."""
    give_back = Upkeep.give_back

    async def late(upkeep: Upkeep, *args: object, **more: object) -> None:
        wish(upkeep.control)
        await give_back(upkeep, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Upkeep, "give_back", late)


@pytest.mark.parametrize("wish", [Control.end, Control.skip], ids=["stop", "skip"])
async def test_a_measured_trial_keeps_its_result_whatever_is_wished_while_its_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: Callable[[Control], object]
) -> None:
    while_the_server_stops(monkeypatch, wish)
    async with bench_in(tmp_path) as bench:
        result = await run_trial(bench, Order("search", {}, every_level((2,))))

    assert result.state == "complete"
    with SessionReader(tmp_path / "run.trtune") as reader:
        assert [(trial.state, trial.score) for trial in reader.trials()] == [
            ("complete", result.score and result.score.value)
        ]


class Held:
    """Chooses a level, then says that the next one is about to begin."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.asked = asyncio.Event()

    def next(self, measured: object) -> float | None:
        self._control.pause()
        self.asked.set()
        return 2.0


async def test_a_trial_that_is_held_by_a_pause_can_be_skipped(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        chooser = Held(bench.control)
        running = asyncio.create_task(run_trial(bench, Order("search", {}, chooser)))
        await asyncio.wait_for(chooser.asked.wait(), WAIT_S)
        bench.control.skip()
        result = await asyncio.wait_for(running, WAIT_S)

    assert (result.state, bench.control.paused) == ("skipped", True)


@pytest.mark.parametrize(("wish", "state"), [(Control.end, "interrupted"), (Control.skip, "skipped")])
async def test_a_gate_that_takes_long_is_broken_off(
    tmp_path: Path, wish: Callable[[Control], object], state: str
) -> None:
    async with bench_in(tmp_path) as bench:

        async def gate(*_: object) -> Awaitable[None]:
            wish(bench.control)
            await asyncio.Event().wait()
            raise AssertionError("the gate was waited for")

        order = Order("search", {}, every_level((2,)), gate=gate)  # type: ignore[arg-type]
        result = await asyncio.wait_for(run_trial(bench, order), WAIT_S)

    assert result.state == state
