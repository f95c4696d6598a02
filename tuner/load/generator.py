"""The load generator as the rest of trtune uses it.

async with LoadGenerator() as generator:
    result = await generator.run(endpoint, workload, level, stop, limits, clock=clock, on_requests=..., on_progress=...)
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from math import ceil
from typing import TYPE_CHECKING, Self

from tuner.load.job import LevelJob
from tuner.load.process import GeneratorProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from sessions.clock import SessionClock
    from sessions.requests import RequestTable
    from sessions.slo import Slo
    from tuner.load.live import LoadProgress
    from tuner.load.process import OwnersEnd
    from tuner.load.result import LevelResult
    from tuner.load.spec import Endpoint, Level, Limits, StopRule, Workload

STREAMS_PER_PROCESS = 1024
RATE_PER_PROCESS = 2000.0
"""Streams and requests per second one process is trusted with before it has been seen at work."""

COLLECTOR_NICENESS = 5
"""Parsing what was read can wait; reading cannot."""

COMFORTABLE_CPU_RATIO = 0.6
"""A process that was busier than this gets help at the next level."""


class LoadGenerator:
    """Owns the generator processes; they stay alive between levels and trials.

    One level runs at a time. The processes end with this object, and by themselves if its process dies.
    """

    def __init__(self, further: Sequence[Callable[[], OwnersEnd]] = ()) -> None:
        """Prepare.

        Args:
            further: Each opens a generator on another host; they are used beside those of this host.
        """
        self._further = further
        self._elsewhere: list[OwnersEnd] = []
        self._processes: list[GeneratorProcess] = []
        self._streams_per_process = float(STREAMS_PER_PROCESS)
        self._rate_per_process = RATE_PER_PROCESS
        self._busy = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load", initializer=_step_back)

    async def __aenter__(self) -> Self:
        self._processes.append(GeneratorProcess())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._close)
        self._thread.shutdown()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the generator processes."""
        return tuple(process.pid for process in self._processes)

    async def run(
        self,
        endpoint: Endpoint,
        workload: Workload,
        level: Level,
        stop: StopRule,
        limits: Limits,
        *,
        clock: SessionClock,
        on_requests: Callable[[RequestTable], None],
        on_progress: Callable[[LoadProgress], None],
        stop_event: asyncio.Event | None = None,
        slos: Sequence[Slo] = (),
    ) -> LevelResult:
        """Run one level to its end.

        Args:
            endpoint: Where to, and how.
            workload: What is asked.
            level: How much at a time.
            stop: When the window opens and closes.
            limits: How long to wait for what.
            clock: All times of rows and result are this clock's session time.
            on_requests: Gets finished requests in batches, about twice a second, in the event loop's thread.
            on_progress: Gets the state about three times a second, in the event loop's thread.
            stop_event: Closes the window at once when set; requests in flight are cut off.
            slos: For goodput.

        Raises:
            BadWorkload: If workload, dataset or endpoint cannot be used.
            Unreachable: If the server takes no connection.
            GeneratorLost: If a generator process died; the next level starts a new one.
        """
        job = LevelJob(endpoint, workload, level, stop, limits, clock, slos)
        loop = asyncio.get_running_loop()
        stopped = threading.Event()

        def send_requests(table: RequestTable) -> None:
            loop.call_soon_threadsafe(on_requests, table)

        def send_progress(progress: LoadProgress) -> None:
            loop.call_soon_threadsafe(on_progress, progress)

        async with self._busy:
            work = loop.run_in_executor(self._thread, self._run_level, job, send_requests, send_progress, stopped)
            watch = asyncio.ensure_future(_pass_on(stop_event, stopped)) if stop_event is not None else None
            try:
                result = await asyncio.shield(work)
            except asyncio.CancelledError:
                # The thread must not go on with a level nobody waits for.
                stopped.set()
                await asyncio.wait([work])
                raise
            finally:
                if watch is not None:
                    watch.cancel()
        self._learn(result)
        return result

    def _run_level(
        self,
        job: LevelJob,
        on_requests: Callable[[RequestTable], None],
        on_progress: Callable[[LoadProgress], None],
        stopped: threading.Event,
    ) -> LevelResult:
        # Imported here, and not above: numerics and parsers load while the generator process starts.
        from tuner.load.level_run import LevelRun

        wanted = self._processes_wanted(job.level)
        while len(self._processes) < wanted:
            self._processes.append(GeneratorProcess())
        elsewhere = max(0, min(len(self._further), int(level_share(job.level)) - wanted))
        finished = False
        try:
            while len(self._elsewhere) < elsewhere:
                self._elsewhere.append(self._further[len(self._elsewhere)]())
            processes: list[OwnersEnd] = [*self._processes[:wanted], *self._elsewhere[:elsewhere]]
            result = LevelRun(job, processes, on_requests, on_progress, stopped).run()
            finished = True
        finally:
            # A level that broke off leaves its processes in the middle of something.
            if not finished:
                self._close()
        return result

    def _processes_wanted(self, level: Level) -> int:
        share = self._streams_per_process if level.kind == "concurrency" else self._rate_per_process
        here = ceil(level.value / share) - len(self._further)
        return int(max(1, min(here, _usable_cpus(), level_share(level))))

    def _learn(self, result: LevelResult) -> None:
        """Give a level of this size more processes next time, if one was too busy."""
        if result.client_cpu_ratio <= COMFORTABLE_CPU_RATIO:
            return
        share = result.level.value / result.generator_processes * COMFORTABLE_CPU_RATIO / result.client_cpu_ratio
        if result.level.kind == "concurrency":
            self._streams_per_process = max(1.0, min(self._streams_per_process, share))
        else:
            self._rate_per_process = max(1.0, min(self._rate_per_process, share))

    def _close(self) -> None:
        processes = [*self._processes, *self._elsewhere]
        self._processes, self._elsewhere = [], []
        with ExitStack() as ends:  # one that cannot be ended keeps none of the others
            for process in processes:
                ends.callback(process.close)


def level_share(level: Level) -> float:
    """Over how many generators a level can be dealt out at most: one stream each, or ten requests per second."""
    return level.value if level.kind == "concurrency" else level.value / 10


async def _pass_on(event: asyncio.Event, stopped: threading.Event) -> None:
    await event.wait()
    stopped.set()


def _step_back() -> None:
    """Let the generator processes go before this thread; on Linux niceness belongs to threads."""
    if sys.platform.startswith("linux"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), COLLECTOR_NICENESS)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
