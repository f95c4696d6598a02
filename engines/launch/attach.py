"""A server that somebody else runs: watched, never started, never stopped, never reconfigured."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from engines._http import get
from engines.base import Failure
from engines.errors import BadConfiguration, EngineError, Unreachable
from engines.launch.ports import split_url

if TYPE_CHECKING:
    import aiohttp

    from engines.base import LaunchSpec
    from engines.launch.base import Finished, LogSink

POLL_S = 0.5
HEALTH_TIMEOUT_S = 10.0


class AttachedServer:
    """The server at a URL."""

    owned = False
    pids: tuple[int, ...] = ()
    log_lines: tuple[str, ...] = ()

    def __init__(self, url: str, ready_path: str = "/health") -> None:
        """Name the server.

        Args:
            url: Base URL, `http://HOST:PORT`.
            ready_path: Path that answers 200 while the server is well.

        Raises:
            BadConfiguration: If the URL is malformed.
        """
        split_url(url)
        self.url = url.rstrip("/")
        self._ready_path = ready_path

    async def wait_ready(self, http: aiohttp.ClientSession, timeout_s: float) -> float:
        """Wait until it answers 200; returns the seconds waited.

        Raises:
            Unreachable: If it does not within `timeout_s`; the text has the last answer.
        """
        start = time.monotonic()
        while True:
            failure = await self.check(http)
            waited_s = time.monotonic() - start
            if failure is None:
                return waited_s
            if waited_s + POLL_S > timeout_s:
                raise Unreachable(f"{failure.text}; is the URL right and the server running?")
            await asyncio.sleep(POLL_S)

    async def check(self, http: aiohttp.ClientSession) -> Failure | None:
        """Why it is not well, or None. Never infeasible: whatever ails it, no setting of ours did."""
        path = self.url + self._ready_path
        try:
            answer = await get(http, path, timeout_s=HEALTH_TIMEOUT_S)
        except EngineError as error:
            return Failure("died", str(error), infeasible=False)
        if answer.status != 200:
            return Failure("hung", f"{path} answers {answer.status} instead of 200", infeasible=False)
        return None

    async def stop(self) -> None:
        """Nothing: it is not ours."""


class AttachLauncher:
    """Makes an `AttachedServer` of the URL in a launch specification and ignores everything else in it."""

    async def start(self, spec: LaunchSpec, on_log: LogSink) -> AttachedServer:
        """The server at `spec.url`."""
        return AttachedServer(spec.url, spec.ready_path)

    async def run_to_end(self, spec: LaunchSpec, timeout_s: float) -> Finished:
        """Never possible.

        Raises:
            BadConfiguration: Always.
        """
        raise BadConfiguration("nothing is started beside a server that somebody else runs")
