"""The generator process: its imports, its start, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.load.levels import good, run_level
from tests.load.servers import serving
from tuner.load.errors import GeneratorLost
from tuner.load.generator import LoadGenerator
from tuner.load.spec import Level, StopRule


async def test_a_lost_generator_process_is_reported_and_replaced(generator: LoadGenerator) -> None:
    children = [child for child in psutil.Process().children() if "tuner.load.hotpath" in " ".join(child.cmdline())]
    async with serving(good) as (url, _):
        task = asyncio.create_task(run_level(generator, url, stop=StopRule(max_s=60)))
        await asyncio.sleep(0.5)
        for child in children:
            child.kill()
        with pytest.raises(GeneratorLost):
            await task
        assert len((await run_level(generator, url)).table) == 4


OWNER = """
import asyncio, sys
from tuner.load.generator import LoadGenerator
async def main():
    async with LoadGenerator() as generator:
        print(generator.pids[0], flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_generator_process_ends_when_its_owner_is_killed() -> None:
    root = Path(__file__).parents[2]
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=root)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    process = psutil.Process(pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    gone, _ = psutil.wait_procs([process], timeout=20)
    assert gone or process.status() == psutil.STATUS_ZOMBIE


def test_the_generator_process_imports_next_to_nothing() -> None:
    code = "import sys; before = {*sys.modules}; import tuner.load.hotpath.loop; print(*({*sys.modules} - before))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=root)
    loaded = set(done.stdout.split())
    heavy = {"asyncio", "json", "numpy", "pydantic", "orjson", "dataclasses", "ssl", "ctypes", "inspect", "logging"}
    assert not loaded & heavy
    assert len(loaded) < 64


async def test_several_processes_share_a_level(generator: LoadGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.load.generator.STREAMS_PER_PROCESS", 2)
    async with serving(good) as (url, _), LoadGenerator() as several:
        outcome = await run_level(several, url, Level("concurrency", 4), stop=StopRule(max_requests=40, max_s=None))
    assert outcome.value.generator_processes == min(2, len(os.sched_getaffinity(0)))
    assert sorted(outcome.table.index.tolist()) == list(range(40))


async def test_first_request_leaves_soon_after_the_start() -> None:
    async with serving(good) as (url, _):
        began = time.process_time()
        async with LoadGenerator() as fresh:
            outcome = await run_level(fresh, url, stop=StopRule(max_requests=1, max_s=None))
        assert time.process_time() - began < 1.0
    assert len(outcome.table) == 1
