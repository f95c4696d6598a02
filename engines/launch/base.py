"""What a launcher does: bring a server up, watch it, take it down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from engines.failure import Failure
    from engines.launch.spec import LaunchSpec

LogSink = Callable[[str], None]
"""Receives each log line of the server, without its line end."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that was run to its end.

    Attributes:
        exit_code: Its exit status; -1 when the runtime does not say.
        lines: First and last lines of what it printed.
        failure: The known failure that it named, or None.
    """

    exit_code: int
    lines: tuple[str, ...]
    failure: Failure | None


class RunningServer(Protocol):
    """A server that was started here, or one that ran before."""

    @property
    def url(self) -> str:
        """Base URL."""
        ...

    @property
    def owned(self) -> bool:
        """Whether trtune started it. A server that is not owned is never stopped."""
        ...

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the server and its descendants; empty when they are not on this host."""
        ...

    @property
    def log_lines(self) -> Sequence[str]:
        """The log so far: its first and its last lines, bounded in memory."""
        ...

    async def wait_ready(self, http: aiohttp.ClientSession, timeout_s: float) -> float:
        """Wait until the server answers.

        Returns:
            Seconds since the start.

        Raises:
            StartFailed: If it ends, prints a fatal line, or is not ready in time; it has been stopped by then.
        """
        ...

    async def check(self, http: aiohttp.ClientSession) -> Failure | None:
        """Why the server is no longer well, or None. Process and health; costs a few milliseconds."""
        ...

    async def stop(self) -> None:
        """End the server and all its descendants; returns when none is left. Does nothing when it is not owned."""
        ...


class Launcher(Protocol):
    """A way to start servers."""

    async def start(self, spec: LaunchSpec, on_log: LogSink) -> RunningServer:
        """Start the server; does not wait until it is ready.

        Raises:
            MissingProgram: If the program, or the package that starts it, is not there.
            NoRuntime: If the daemon or cluster that is to start it does not answer, or not to this user.
            CannotStart: If no configuration can be started: no such image, no permission, no such namespace.
            StartFailed: If the port is taken, or the process cannot be made.
        """
        ...

    async def run_to_end(self, spec: LaunchSpec, timeout_s: float) -> Finished:
        """Run a command that ends by itself, such as a dry run or a list of profiles; nothing of it is left behind.

        Raises:
            MissingProgram, NoRuntime, CannotStart: As `start`.
            StartFailed: As `start`, or when it has not ended within `timeout_s`.
        """
        ...
