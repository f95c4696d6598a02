"""A server that somebody else runs: watched, never started, never stopped, never reconfigured."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from engines._http import get
from engines.errors import BadConfiguration, EngineError, Unreachable
from engines.failure import Failure
from engines.launch.ports import split_url

if TYPE_CHECKING:
    import aiohttp

    from engines._http import Answer
    from engines.launch.base import Finished, LogSink
    from engines.launch.spec import LaunchSpec

POLL_S = 0.5
HEALTH_TIMEOUT_S = 10.0
HEALTH = "/health"
_NO_SUCH_PATH = frozenset({401, 403, 404, 405, 501})
"""What servers answer where they have no such path, or hide that they have none."""


class AttachedServer:
    """The server at a URL."""

    owned = False
    pids: tuple[int, ...] = ()
    log_lines: tuple[str, ...] = ()

    def __init__(self, url: str, *ready_paths: str) -> None:
        """Name the server.

        Args:
            url: Base URL, `http://HOST:PORT`.
            ready_paths: Paths that answer 200 while the server is well, best first: the first one that it has is asked.

        Raises:
            BadConfiguration: If the URL is malformed.
        """
        split_url(url)
        self.url = url.rstrip("/")
        self._ready_paths = ready_paths or (HEALTH,)

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
        try:
            answer = await self._ask(http)
        except EngineError as error:
            return Failure("died", str(error), infeasible=False)
        if answer.status != 200:
            return Failure("hung", f"{answer.url} answers {answer.status} instead of 200", infeasible=False)
        return None

    async def _ask(self, http: aiohttp.ClientSession) -> Answer:
        """The answer of the first path that the server has; once found, no other one is asked again."""
        *others, last = self._ready_paths
        for path in others:
            answer = await get(http, self.url + path, timeout_s=HEALTH_TIMEOUT_S)
            if answer.status not in _NO_SUCH_PATH:
                self._ready_paths = (path,)
                return answer
        answer = await get(http, self.url + last, timeout_s=HEALTH_TIMEOUT_S)
        if answer.status == 200:
            self._ready_paths = (last,)
        return answer

    async def stop(self) -> None:
        """Nothing: it is not ours."""


class AttachLauncher:
    """Makes an `AttachedServer` of the URL in a launch specification and ignores everything else in it."""

    async def start(self, spec: LaunchSpec, on_log: LogSink) -> AttachedServer:
        """The server at `spec.url`."""
        return AttachedServer(spec.url, *spec.attach_paths, spec.ready_path)

    async def run_to_end(self, spec: LaunchSpec, timeout_s: float) -> Finished:
        """Never possible.

        Raises:
            BadConfiguration: Always.
        """
        raise BadConfiguration("nothing is started beside a server that somebody else runs")
