"""Starts a server as a process of this host and takes it down again, with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from engines._http import get
from engines.errors import EngineError, MissingProgram, StartFailed
from engines.failure import Failure
from engines.launch.base import Finished
from engines.launch.guarded import GuardedProcess
from engines.launch.log import ServerLog
from engines.launch.ports import require_free

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

    from engines.launch.base import LogSink
    from engines.launch.spec import LaunchSpec

READY_POLL_S = 0.1
READY_TIMEOUT_S = 2.0
HEALTH_TIMEOUT_S = 10.0
UNWELL_CHECKS = 2
KILL_POLL_S = 0.05
KILL_LIMIT_S = 10.0
LOG_DRAIN_S = 5.0
GUARD_MARGIN_S = 25.0
_OUTSIDE_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP})


@dataclass(frozen=True, slots=True)
class StopGrace:
    """How long a server may take over its end (contract trtllm 8.2: a graceful end takes tens of seconds).

    Attributes:
        interrupt_s: After SIGINT to its group, as Ctrl-C would send; 0 leaves this step out.
        terminate_s: After SIGTERM to the whole tree; then follows SIGKILL.
        settle_s: How long a failing start may go on printing, so that the most telling line is found.
    """

    interrupt_s: float = 30.0
    terminate_s: float = 10.0
    settle_s: float = 1.0


class ProcessServer:
    """One server process, with its guard between it and us (see `engines.launch.guard`)."""

    owned = True

    def __init__(self, spec: LaunchSpec, grace: StopGrace, on_log: LogSink) -> None:
        self.url = spec.url
        self._spec = spec
        self._grace = grace
        self._on_log = on_log
        self._log = ServerLog(spec.failures)
        self._started = time.monotonic()
        self._guard = GuardedProcess(self._take)
        self._keeper: psutil.Process | None = None
        self._seen: set[psutil.Process] = set()
        self._main: psutil.Process | None = None
        self._unwell = 0

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start the process; called once, by the launcher."""
        await self._guard.start(self._spec.argv, environment, self._spec.cpus)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the server and its descendants, without the guard."""
        self._record()
        return tuple(sorted(process.pid for process in self._seen))

    def _record(self) -> None:
        """Remember who belongs to the server, in case the guard is ended from outside."""
        if (front_pid := self._guard.pid) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._keeper = self._keeper or next(iter(psutil.Process(front_pid).children()), None)
                if self._keeper is not None:
                    family = self._keeper.children(recursive=True)
                    self._seen.update(family)
                    self._main = self._main or next((each for each in family if each.ppid() == self._keeper.pid), None)
        self._seen = {process for process in self._seen if _runs(process)}

    @property
    def log_lines(self) -> tuple[str, ...]:
        """The first and the last lines of its log."""
        return self._log.lines

    async def wait_ready(self, http: aiohttp.ClientSession, timeout_s: float) -> float:
        """Wait for a 200 from the ready path; returns the seconds since the start.

        Raises:
            StartFailed: If it ends, prints a fatal line, or is not ready in time; it has been stopped by then.
        """
        deadline = self._started + timeout_s
        while time.monotonic() < deadline:
            if self._guard.exited.is_set() or self._log.fatal_seen:
                raise StartFailed(await self._failed_start())
            if await self._answers(http) and not self._guard.exited.is_set():
                self._log.forget_failures()
                self._record()
                return time.monotonic() - self._started
            await asyncio.sleep(READY_POLL_S)
        # Told before the stop: what a server prints when it is interrupted is no cause.
        failure = self._not_ready(timeout_s)
        await self.stop()
        raise StartFailed(failure)

    async def check(self, http: aiohttp.ClientSession) -> Failure | None:
        """Why it is no longer well, or None.

        An ended process counts at once, even while its guard still ends what it left behind. A health path that fails
        counts the second time in a row, since a busy server may be late once; a server can also answer 503 for ever
        without ending (contract trtllm 8.2).
        """
        if self._guard.exited.is_set() or (self._main is not None and not _runs(self._main)):
            await _within(self._guard.exited, GUARD_MARGIN_S)
            await _within(self._guard.closed, LOG_DRAIN_S)
            return self._died(self._guard.exit_code or 0)
        self._record()
        failure = await self._unhealthy(http)
        self._unwell = self._unwell + 1 if failure else 0
        return failure if self._unwell >= UNWELL_CHECKS else None

    async def wait_end(self, timeout_s: float) -> Finished:
        """Wait until it has ended by itself.

        Raises:
            StartFailed: If it has not within `timeout_s`.
        """
        await _within(self._guard.exited, timeout_s)
        if not self._guard.exited.is_set():
            text = f"the command has not ended within {timeout_s:g} s{self._last_words()}"
            raise StartFailed(Failure("timeout", text, infeasible=False))
        await _within(self._guard.closed, LOG_DRAIN_S)
        code = -1 if self._guard.exit_code is None else self._guard.exit_code
        return Finished(code, self._log.lines, self._log.failure(code))

    async def stop(self) -> None:
        """SIGINT, SIGTERM, SIGKILL, as far as needed; returns when no process of the server is left."""
        await asyncio.shield(asyncio.ensure_future(self._stop()))

    async def _stop(self) -> None:
        pids = self.pids
        self._guard.ask_to_stop(self._grace.interrupt_s, self._grace.terminate_s)
        await _within(self._guard.exited, self._grace.interrupt_s + self._grace.terminate_s + GUARD_MARGIN_S)
        if pids and self.pids:
            await self._kill_all()
        await _within(self._guard.closed, LOG_DRAIN_S)
        self._guard.close()

    async def _kill_all(self) -> None:
        """The last resort when the guard itself was ended from outside: SIGKILL to every process seen."""
        self._guard.kill()
        deadline = time.monotonic() + KILL_LIMIT_S
        while self.pids and time.monotonic() < deadline:
            for process in self._seen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            await asyncio.sleep(KILL_POLL_S)

    def _take(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._log.add(line)
            self._on_log(line)

    async def _answers(self, http: aiohttp.ClientSession) -> bool:
        try:
            answer = await get(http, self.url + self._spec.ready_path, timeout_s=READY_TIMEOUT_S)
        except EngineError:
            return False
        return answer.status == 200

    async def _failed_start(self) -> Failure:
        """Let it print the rest, take it down, and say why it failed."""
        await _within(self._guard.exited, self._grace.settle_s)
        code = self._guard.exit_code
        await self.stop()
        return self._log.failure(code) or Failure(
            "exited",
            f"the server ended before it was ready ({_ending(code)}){self._last_words()}",
            exit_code=code,
        )

    def _not_ready(self, timeout_s: float) -> Failure:
        known = self._log.failure()
        text = f"the server was not ready within {timeout_s:g} s; raise the start timeout or see its log"
        return known or Failure("timeout", f"{text}{self._last_words()}")

    def _died(self, code: int) -> Failure:
        known = self._log.failure(code)
        text = f"the server ended while it was in use ({_ending(code)}){self._last_words()}"
        return known or Failure("died", text, exit_code=code, infeasible=code - 128 not in _OUTSIDE_SIGNALS)

    async def _unhealthy(self, http: aiohttp.ClientSession) -> Failure | None:
        path = self.url + self._spec.ready_path
        try:
            answer = await get(http, path, timeout_s=HEALTH_TIMEOUT_S)
        except EngineError as error:
            return self._log.failure() or Failure("hung", f"{error}; its process still runs")
        if answer.status == 200:
            return None
        return self._log.failure() or Failure("hung", f"{path} answers {answer.status}; its process still runs")

    def _last_words(self) -> str:
        last = next((line.strip() for line in reversed(self._log.lines) if line.strip()), "")
        return f": {last}" if last else ""


class ProcessLauncher:
    """Starts servers as processes of this host."""

    def __init__(self, grace: StopGrace | None = None) -> None:
        """Set how long servers may take over their end."""
        self._grace = grace or StopGrace()

    async def start(self, spec: LaunchSpec, on_log: LogSink) -> ProcessServer:
        """Start the server; does not wait until it is ready. `on_log` gets every line of its output.

        Raises:
            MissingProgram: If the program is not there.
            StartFailed: If the port is taken.
        """
        environment = {**os.environ, **spec.environment}
        _require_program(spec.argv[0], environment.get("PATH"))
        require_free(spec.url)
        for path, text in spec.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        server = ProcessServer(spec, self._grace, on_log)
        await server.start(environment)
        return server

    async def run_to_end(self, spec: LaunchSpec, timeout_s: float, on_log: LogSink = lambda _: None) -> Finished:
        """Run a command that ends by itself. `on_log` gets every line of its output as it comes.

        Raises:
            MissingProgram: If the program is not there.
            StartFailed: When it has not ended within `timeout_s`; it has been stopped by then.
        """
        environment = {**os.environ, **spec.environment}
        _require_program(spec.argv[0], environment.get("PATH"))
        command = ProcessServer(spec, self._grace, on_log)
        await command.start(environment)
        try:
            return await command.wait_end(timeout_s)
        finally:
            await command.stop()


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but not longer."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _require_program(program: str, search_path: str | None) -> None:
    if shutil.which(program, path=search_path) is None:
        raise MissingProgram(f"program {program!r} is not on this host; install it or give another command in the plan")


def _ending(code: int | None) -> str:
    if code is None:
        return "stopped by trtune"
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(code - 128).name}"
    return f"exit code {code}"


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
