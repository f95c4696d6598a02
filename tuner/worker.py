"""The worker: the process that owns target, samplers, load and search. Needs no terminal and survives its viewer.

Started as `python -m tuner.worker SESSION`; what it is to do stands in the session. It obeys the commands that
viewers append to the session, ignores SIGHUP, and takes SIGINT and SIGTERM for «stop, and clean up».
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError

from engines.errors import EngineError, Unreachable
from engines.launch.ports import free_port
from engines.registry import get_engine
from sessions.errors import SessionError, SessionUnwritable
from sessions.faults import faults_written, read_fault
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tuner.control import Control
from tuner.environment import restore
from tuner.errors import TunerError
from tuner.fleet.opening import open_fleet
from tuner.fleet.shared_study import open_shared_study
from tuner.fleet.storage import VARIABLE
from tuner.gpu_watch import GpuWatch
from tuner.load.errors import LoadError
from tuner.opening import open_bench
from tuner.server import Places, runs_here
from tuner.stored_plan import stored_plan
from tuner.tune import TuneJob
from tuner.watch import BenchJob, WatchJob

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from sessions.records import Command
    from tuner.bench import Bench
    from tuner.plan import Plan

    class Job(Protocol):
        """What a worker does."""

        async def run(self) -> str:
            """Do it; returns why it ended, in words."""
            ...

        def obey(self, kind: str, args: Mapping[str, Any]) -> tuple[str, str] | None:
            """Do what an operator asks: `done` or `refused`, and a reply; None for a command that is not the job's."""
            ...

        def close(self) -> None:
            """Let go of what it holds."""
            ...


TICK_S = 0.2
"""Period of flushing, of the sign of life, and of looking for commands."""

ATTRIBUTION_PERIOD_S = 1.0
"""Period of looking up the server's processes."""

FAILED_EXIT = 1


class Worker:
    """Runs the plan of one session."""

    def __init__(self, recorder: Recorder, plan: Plan) -> None:
        self._recorder = recorder
        self._plan = plan
        self._control = Control()
        self._engine = get_engine(plan.engine.name)
        self._gpus: GpuWatch | None = None
        self._job: Job | None = None
        self._bench: Bench | None = None
        self._attributed_s = 0.0
        self._profiling: set[asyncio.Task[None]] = set()
        self._text = "starting"

    async def run(self) -> str:
        """Do the work of the plan; returns why it ended, in words.

        Raises:
            EngineError: If the target cannot be worked with at all.
            TunerError: If the plan cannot be carried out.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._control.end)
        with tempfile.TemporaryDirectory(prefix="trtune-") as folder:
            places = Places(Path(folder), free_port("127.0.0.1"))
            async with AsyncExitStack() as stack:
                gpus = self._gpus = self._gpu_watch(places)
                bench = self._bench = await open_bench(stack, self._plan, self._recorder, self._control, places, gpus)
                self._job = await self._make_job(bench, stack)
                stack.callback(self._job.close)
                return await self._work(self._job)

    async def _work(self, job: Job) -> str:
        """Run the job beside the ticking; when the session can no longer be written, the job is ended in good order."""
        working = asyncio.create_task(job.run())
        ticking = asyncio.create_task(self._tick())
        await asyncio.wait({working, ticking}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            self._control.end()
        reason = await working
        for task in (ticking, *self._profiling):
            task.cancel()
        await asyncio.wait({ticking, *self._profiling})
        if not ticking.cancelled():
            ticking.result()
        return reason

    async def _make_job(self, bench: Bench, stack: AsyncExitStack) -> Job:
        if self._plan.kind == "watch":
            return WatchJob(bench)
        if self._plan.kind == "bench":
            return BenchJob(bench)
        fleet, hardware = await open_fleet(bench, os.environ)
        stack.push_async_callback(fleet.close)
        storage = open_shared_study(self._recorder, self._plan, os.environ)
        if storage is not None:
            stack.callback(storage.close)
        return TuneJob(bench, fleet, hardware, storage)

    def _gpu_watch(self, places: Places) -> GpuWatch:
        plan = self._plan
        here = plan.gpu.local and (plan.engine.launch == "attach" or runs_here(plan.engine))
        own_page = "" if here else self._engine.gpu_metrics_url(plan.engine.url)
        return GpuWatch(
            plan.gpu,
            places,
            self._recorder,
            here=here,
            own_page=own_page,
            elsewhere=bool(plan.fleet.cluster) and plan.engine.launch != "attach",
        )

    async def _tick(self) -> None:
        while True:
            for command in self._recorder.commands():
                if command.kind == "profile":
                    self._profiling.add(asyncio.create_task(self._profile(command)))
                    continue
                state, reply = self._obey(command)
                self._recorder.answer(command, state, reply)
            for task in [each for each in self._profiling if each.done()]:
                self._profiling.remove(task)
                task.result()
            self._attribute()
            self._recorder.beat("paused" if self._control.paused else "running")
            await asyncio.sleep(TICK_S)

    def _attribute(self) -> None:
        """Tell the GPU sampler whose memory is the server's: its workers, not the process that was started, hold it."""
        if self._gpus is None or self._bench is None or time.monotonic() - self._attributed_s < ATTRIBUTION_PERIOD_S:
            return
        self._attributed_s = time.monotonic()
        self._gpus.attribute(pid for upkeep in self._bench.upkeep.up for pid in upkeep.pids)

    async def _profile(self, command: Command) -> None:
        """Start or stop the server's profiler; it takes up to a minute, and the work goes on meanwhile."""
        try:
            told = await self._told_to_profile(command.args)
        except (EngineError, TunerError) as error:
            self._recorder.answer(command, "refused", str(error))
        except asyncio.CancelledError:
            self._recorder.answer(command, "refused", "the work ended before the server answered")
            raise
        else:
            self._recorder.answer(command, "done", told)

    async def _told_to_profile(self, args: Mapping[str, Any]) -> str:
        """What the server says to a start or stop of its profiler.

        Raises:
            TunerError: If there is no server, or more than one.
            EngineError: If the server does not do it.
        """
        upkeep = None if self._bench is None else self._bench.upkeep
        up = [] if upkeep is None else [each for each in upkeep.up if each.running is not None]
        urls = [each.running.url for each in up if each.running is not None]
        if len(up) > 1:
            raise TunerError(f"{len(up)} servers run side by side: profile one of them by its URL ({', '.join(urls)})")
        if up:
            return await up[0].profile(urls[0], args)
        if upkeep is not None and self._plan.engine.url:
            return await upkeep.profile(self._plan.engine.url, args)
        if self._plan.fleet.cluster:
            raise TunerError("the servers run on nodes of the cluster: profile one there by its URL")
        raise TunerError("no server runs now")

    def _obey(self, command: Command) -> tuple[str, str]:
        """Do what an operator asks; returns `done` or `refused`, and a reply."""
        match command.kind:
            case "pause":
                self._control.pause()
                return "done", "paused: what runs goes on to its end, nothing new begins"
            case "resume":
                self._control.resume()
                return "done", "goes on"
            case "skip":
                return self._skip(command.args.get("trial"))
            case "stop":
                self._control.end()
                return "done", "stopping"
            case "mark":
                text = str(command.args.get("text", ""))
                self._recorder.event("mark", text)
                return "done", text
            case _:
                answer = None if self._job is None else self._job.obey(command.kind, command.args)
                return answer or ("refused", "this worker does not know that command")

    def _skip(self, wanted: object) -> tuple[str, str]:
        named = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else None
        number = self._control.skip(named)
        if number is not None:
            return "done", f"trial {number} is left"
        whose = "no trial is" if named is None else f"trial {named} is not"
        return "refused", f"{whose} being started or measured now"


def work(path: Path) -> int:
    """Carry out the plan in a session file; returns the exit status.

    Raises:
        SessionError: If the file cannot be written by us.
    """
    recorder = Recorder.resume(path)
    failed = True
    try:
        recorder.set_worker("starting", "starting")
        _tell_of_a_fault(recorder)
        with SessionReader(path) as reader:
            plan = stored_plan(reader)
        with faults_written(path):
            reason = asyncio.run(Worker(recorder, plan).run())
        for command in recorder.commands():
            recorder.answer(command, "refused", "the work has ended")
        recorder.set_worker("done", reason)
        failed = False
    except Unreachable as error:
        recorder.set_meta({"exit": "unreachable"})
        recorder.set_worker("failed", str(error))
    except (EngineError, TunerError, LoadError, SessionError, OSError, sqlite3.Error) as error:
        recorder.log("worker", "error", str(error))
        _last_word(recorder, str(error))
    except StorageInternalError as error:
        _last_word(recorder, _storage_words(path, error, shared=bool(os.environ.get(VARIABLE))))
    except Exception as error:  # the last resort: nobody may be left without a word  # noqa: BLE001
        for line in traceback.format_exc().splitlines():
            recorder.log("worker", "debug", line)
        _last_word(recorder, f"a fault in trtune: {type(error).__name__}: {error}")
    finally:
        recorder.close()
    return FAILED_EXIT if failed else 0


def _tell_of_a_fault(recorder: Recorder) -> None:
    """Into the log: how the worker before this one ended, if a fault ended it that it could not tell of by itself."""
    for place, line in enumerate(read_fault(recorder.path)):
        text = line if place else f"the worker before this one was ended by a fault in a library: {line}"
        recorder.log("worker", "debug" if place else "error", text)


def _storage_words(path: Path, error: StorageInternalError, *, shared: bool) -> str:
    """Why the study cannot be kept, and what to do. What a database says is not passed on: it may repeat the address."""
    if shared:
        kind = type(error.__cause__ or error).__name__
        return f"the database of the study failed ({kind}): see the database's log, then go on with --resume"
    cause = str(error.__cause__).partition("\n")[0]
    return f"the search's part of {path} cannot be written ({cause}): make room, then go on with --resume"


def _last_word(recorder: Recorder, text: str) -> None:
    """Say why the work ended, in the session if that can be written, and to whoever started us in any case."""
    print(text, file=sys.stderr)  # noqa: T201
    with contextlib.suppress(SessionUnwritable):
        recorder.set_worker("failed", text)


def main() -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="python -m tuner.worker", description="Carry out the plan of a session.")
    parser.add_argument("session", type=Path)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    restore(os.environ)
    try:
        return work(parser.parse_args().session)
    except SessionError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return FAILED_EXIT


if __name__ == "__main__":
    sys.exit(main())
