"""No handler holds up the event loop: a key pressed at any time is answered."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sessions.columns import COLUMNS
from tests.tui.sample_session import META, hand_recorder, write_sample_session
from tests.tui.screen_helpers import revive, running_app, shown, until
from tui.widgets.trial_table import TrialTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

HANDLER_LIMIT_S = 0.050
"""Longest that one handler may keep the loop, in CPU time of its thread: the machine that tests is shared."""

LOOK_S = 0.02
"""How often the watchdog looks. Not at every turn: before each key the pilot waits for the process to be idle, for a second."""

ROUNDS = 5
"""A slow handler is slow in every round. A neighbour that empties the caches is not: CPU time, too, is longer then."""


class Watchdog:
    """Measures, in CPU time of the loop's thread, how long the loop goes without coming round; too long by `LOOK_S` at most."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        before_s = time.thread_time()
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = time.thread_time()
            self.longest_s = max(self.longest_s, now_s - before_s)
            before_s = now_s


@asynccontextmanager
async def watched() -> AsyncIterator[Watchdog]:
    """A watchdog at work, with the heap frozen as the program freezes it with its first picture.

    Behind thousands of other tests one full collection takes a second, which is no handler's work.
    """
    watchdog = Watchdog()
    gc.freeze()
    task = asyncio.create_task(watchdog.watch())
    try:
        yield watchdog
    finally:
        task.cancel()
        gc.unfreeze()


async def longest_stall_s(act: Callable[[], Awaitable[None]]) -> float:
    """The longest stall in the quietest of some rounds; a round within the limit is enough."""
    quietest_s = math.inf
    for _ in range(ROUNDS):
        async with watched() as watchdog:
            await act()
        quietest_s = min(quietest_s, watchdog.longest_s)
        if quietest_s < HANDLER_LIMIT_S:
            break
    return quietest_s


async def test_no_handler_keeps_the_loop_for_long(tmp_path: Path) -> None:
    path = write_sample_session(tmp_path / "eight.trtune", gpus=8, over=False)
    revive(path)

    async with running_app(path, size=(120, 40), mode="live") as (app, pilot):

        async def use_the_keys() -> None:
            for key in ("home", "right", "Z", "Z", "2", "v", "v", "4", "1", "left", "f", "plus", "minus"):
                await pilot.press(key)
                await pilot.pause(0.02)

        for key in ("2", "4", "3", "1"):  # loading a screen for the first time is not what a handler does again
            await pilot.press(key)
            await pilot.pause(0.1)

        assert await longest_stall_s(use_the_keys) < HANDLER_LIMIT_S
        assert "KV cache" in shown(app)


async def test_ten_thousand_trials_scroll_without_a_stall(tmp_path: Path) -> None:
    recorder, clock = hand_recorder(tmp_path / "many.trtune", META)
    for number in range(10_000):
        clock.set_s(number * 0.01)
        trial = recorder.start_trial("search", {"max_batch_size": number})
        recorder.end_trial(trial, "complete", score=1000.0 + number % 97, feasible=True)
    source = recorder.add_source("load", "load", {})
    recorder.add_sample(source, clock.now(), [math.nan for _ in COLUMNS["load"]])
    recorder.set_worker("done", "over")
    recorder.close()

    async with running_app(recorder.path, screen="tune", size=(120, 40)) as (app, pilot):
        table = app.screen.query_one(TrialTable)
        await until(pilot, lambda: table.row_count == 10_000)

        async def scroll() -> None:
            await pilot.press(*["pageup"] * 20, *["up"] * 20)
            await until(pilot, lambda: app.snapshot is not None and app.snapshot.selected is not None)

        assert await longest_stall_s(scroll) < HANDLER_LIMIT_S
        assert table.cursor_row < 9_900
        assert f" {table.cursor_row} " in shown(app)
