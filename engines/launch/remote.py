"""A server whose process is not ours to see: in a container or a cluster. Asked for its state, its log and its end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engines._http import get
from engines.errors import CannotStart, EngineError, StartFailed
from engines.failure import Failure
from engines.launch.base import Finished
from engines.launch.log import ServerLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

    from engines.launch.base import LogSink
    from engines.launch.spec import LaunchSpec

READY_POLL_S = 0.25
READY_TIMEOUT_S = 2.0
HEALTH_TIMEOUT_S = 10.0
UNWELL_CHECKS = 2
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkloadState:
    """What the runtime says of a container or pod.

    Attributes:
        ended: Whether its process has ended, or can never start.
        exit_code: Its exit status, if it has one.
        detail: Why, in few words; empty when there is nothing to say.
        unhealthy: Whether the runtime's own health check fails.
        infeasible: Whether its end is the configuration's fault as far as the runtime knows.
        hopeless: Whether no configuration could be started: the image cannot be had.
    """

    ended: bool = False
    exit_code: int | None = None
    detail: str = ""
    unhealthy: bool = False
    infeasible: bool = True
    hopeless: bool = False


class Workload(Protocol):
    """A container or pod that was started."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids on this host as last seen; empty when it runs elsewhere."""
        ...

    async def state(self) -> WorkloadState:
        """What the runtime says now.

        Raises:
            EngineError: If the runtime does not answer.
        """
        ...

    async def remove(self) -> None:
        """Stop and remove it, with all that was made for it; returns when its process is gone."""
        ...


class RemoteServer:
    """A server in a container or pod, watched by three signs: the runtime's state, its log, and its health path."""

    owned = True

    def __init__(self, spec: LaunchSpec, url: str, workload: Workload, log: RemoteLog) -> None:
        """Take over what was started.

        Args:
            spec: What was started.
            url: Where it answers us.
            workload: The container or pod.
            log: Its log, being filled.
        """
        self.url = url
        self._ready_url = url + spec.ready_path
        self._workload = workload
        self._log = log
        self._started = time.monotonic()
        self._unwell = 0
        self._removed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids on this host; empty when it runs elsewhere."""
        return self._workload.pids

    @property
    def log_lines(self) -> Sequence[str]:
        """The first and the last lines of its log."""
        return self._log.kept.lines

    async def wait_ready(self, http: aiohttp.ClientSession, timeout_s: float) -> float:
        """Wait for a 200 from the ready path; returns the seconds since the start.

        Raises:
            StartFailed: If it ends, prints a fatal line, or is not ready in time; it has been removed by then.
        """
        deadline = self._started + timeout_s
        state = WorkloadState()
        while time.monotonic() < deadline:
            state = await self._state()
            if state.ended or self._log.kept.fatal_seen:
                failure = await self._failed_start(state)
                raise CannotStart(failure) if state.hopeless else StartFailed(failure)
            if await self._answers(http):
                self._log.kept.forget_failures()
                return time.monotonic() - self._started
            await asyncio.sleep(READY_POLL_S)
        text = (
            f"the server was not ready within {timeout_s:g} s{_reason(state)}; raise the start timeout or see its log"
        )
        failure = self._log.kept.failure() or Failure("timeout", text)
        await self.stop()
        raise StartFailed(failure)

    async def check(self, http: aiohttp.ClientSession) -> Failure | None:
        """Why it is no longer well, or None; a failing health path counts the second time in a row."""
        state = await self._state()
        if state.ended:
            known = self._log.kept.failure(state.exit_code)
            text = f"the server ended while it was in use{_reason(state)}"
            return known or Failure("died", text, exit_code=state.exit_code, infeasible=state.infeasible)
        failure = await self._unhealthy(http)
        if failure is None and state.unhealthy:
            failure = Failure("hung", f"the container's own health check fails{_reason(state)}")
        self._unwell = self._unwell + 1 if failure else 0
        return failure if self._unwell >= UNWELL_CHECKS else None

    async def stop(self) -> None:
        """Stop and remove it; does nothing once that is done.

        Raises:
            EngineError: If the runtime does not answer or refuses: it may still run then, and a second call tries again.
        """
        await asyncio.shield(asyncio.ensure_future(self._stop()))

    async def _stop(self) -> None:
        if self._removed:
            return
        await self._workload.remove()
        self._removed = True
        await self._log.settle(SETTLE_S)

    async def _state(self) -> WorkloadState:
        """The runtime's word; one that does not answer is not held against the server."""
        try:
            return await self._workload.state()
        except EngineError:
            return WorkloadState()

    async def _answers(self, http: aiohttp.ClientSession) -> bool:
        try:
            answer = await get(http, self._ready_url, timeout_s=READY_TIMEOUT_S)
        except EngineError:
            return False
        return answer.status == 200

    async def _unhealthy(self, http: aiohttp.ClientSession) -> Failure | None:
        try:
            answer = await get(http, self._ready_url, timeout_s=HEALTH_TIMEOUT_S)
        except EngineError as error:
            return self._log.kept.failure() or Failure("hung", f"{error}; its container still runs")
        if answer.status == 200:
            return None
        text = f"{self._ready_url} answers {answer.status}; its container still runs"
        return self._log.kept.failure() or Failure("hung", text)

    async def _failed_start(self, state: WorkloadState) -> Failure:
        """Let the log come in, take it down, and say why it failed."""
        await self._log.settle(SETTLE_S)
        if not state.ended:
            state = await self._state()
        known = self._log.kept.failure(state.exit_code)
        last = next((line.strip() for line in reversed(self._log.kept.lines) if line.strip()), "")
        await self.stop()
        if known is not None:
            return known
        text = f"the server ended before it was ready{_reason(state)}" + (f": {last}" if last else "")
        return Failure("exited", text, exit_code=state.exit_code, infeasible=state.infeasible)


class RemoteLog:
    """A log that a thread reads from a runtime and the event loop keeps.

    Attributes:
        kept: The lines, bounded in memory, and the failures found in them.
    """

    def __init__(self, spec: LaunchSpec, on_log: LogSink) -> None:
        """Prepare; `on_log` gets every line, in the event loop."""
        self.kept = ServerLog(spec.failures)
        self._on_log = on_log
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def follow(self, read: Callable[[RemoteLog], None]) -> None:
        """Run the reader, which feeds this log until it ends, in a thread of its own.

        A daemon thread: it may wait in a socket for as long as the server is silent, and must hold up neither the
        event loop's few worker threads nor the end of the program.
        """

        def run() -> None:
            read(self)
            self._in_loop(self._ended.set)

        threading.Thread(target=run, name="server log", daemon=True).start()

    def feed(self, lines: Sequence[str]) -> None:
        """Take lines; may be called from any thread."""
        if lines:
            self._in_loop(self._take, tuple(lines))

    async def settle(self, seconds: float) -> None:
        """Wait until the log has ended, but not longer."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        """Call in the event loop; nothing happens once it is closed, as at the end of the program."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _take(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            self.kept.add(line)
            self._on_log(line)


async def run_out(workload: Workload, log: RemoteLog, timeout_s: float) -> Finished:
    """Wait until a container or pod has ended by itself, and remove it.

    Raises:
        CannotStart: If it can never be started.
        StartFailed: If it has not ended within `timeout_s`.
        EngineError: If the runtime does not answer.
    """
    deadline = time.monotonic() + timeout_s
    try:
        while not (state := await workload.state()).ended:
            if time.monotonic() > deadline:
                text = f"the command has not ended within {timeout_s:g} s{_reason(state)}; see its log"
                raise StartFailed(Failure("timeout", text, infeasible=False))
            await asyncio.sleep(READY_POLL_S)
        if state.hopeless:
            text = f"the command cannot be started{_reason(state)}"
            raise CannotStart(Failure("no_image", text, infeasible=False))
        await log.settle(SETTLE_S)
    finally:
        await workload.remove()
    code = -1 if state.exit_code is None else state.exit_code
    return Finished(code, log.kept.lines, log.kept.failure(code))


def _reason(state: WorkloadState) -> str:
    known = [f"exit code {state.exit_code}"] if state.exit_code is not None else []
    known += [state.detail] if state.detail else []
    return f" ({', '.join(known)})" if known else ""
