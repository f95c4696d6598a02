"""Samplers that meet what nobody foresaw: the session says so, and the work goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp

from engines.gpu.base import GpuInfo, GpuSample
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tuner.sampling import EngineSampler, GpuSampler


class BrokenDriver:
    """A driver that raises what it likes."""

    gpus: tuple[GpuInfo, ...] = ()
    closed = False

    def sample(self) -> tuple[GpuSample, ...]:
        raise RuntimeError("driver unloaded")

    def attribute(self, pids: frozenset[int]) -> None:
        pass

    def problems(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        self.closed = True


class OddServer:
    """A server whose page of metrics breaks the reader of it."""

    name, title = "odd", "Odd"
    asked = 0

    def metrics(self, *_: object) -> OddServer:
        return self

    async def poll(self) -> Sequence[tuple[int, Any]]:
        self.asked += 1
        raise KeyError("iteration")


async def test_a_driver_that_breaks_ends_the_samples_with_a_word(tmp_path: Path) -> None:
    recorder, driver = Recorder.create(tmp_path / "run.trtune", {}), BrokenDriver()

    sampler = GpuSampler(driver, recorder, 0.01)
    while not driver.closed:  # noqa: ASYNC110 - set by the sampler's thread
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    await sampler.close()
    recorder.close()

    with SessionReader(recorder.path) as reader:
        assert [event.text for event in reader.events()] == ["GPU samples end here: RuntimeError: driver unloaded"]


async def test_metrics_that_break_their_reader_are_read_no_more_and_the_work_goes_on(tmp_path: Path) -> None:
    recorder, server = Recorder.create(tmp_path / "run.trtune", {}), OddServer()

    async with aiohttp.ClientSession() as http:
        sampler = EngineSampler(cast("Any", server), http, "http://127.0.0.1:9", recorder)
        await asyncio.sleep(0.05)
        await sampler.close()
    recorder.close()

    assert server.asked == 1
    with SessionReader(recorder.path) as reader:
        assert "metrics: a fault in trtune: KeyError: 'iteration'" in reader.logs()[0].text
