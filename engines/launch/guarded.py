"""A command run under its guard: started, listened to, asked to stop (see `engines.launch.guard`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from engines.launch.log import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GUARD = Path(__file__).with_name("guard.py")
STDIN, STDOUT = 0, 1
ALL_CPUS = "all"


class GuardedProcess(asyncio.SubprocessProtocol):
    """The guard of a command, as the event loop sees it; `take_lines` gets the lines of its output as they come.

    A protocol of our own, since asyncio's streams report the end of a process only once every holder of its pipes is
    gone, and a descendant of a server may hold them for ever.

    Attributes:
        exited: Set when the guard has ended.
        closed: Set when the last holder of the log's pipe is gone.
    """

    def __init__(self, take_lines: Callable[[Sequence[str]], None]) -> None:
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        self._take_lines = take_lines
        self._splitter = LineSplitter()
        self._transport: asyncio.SubprocessTransport | None = None

    async def start(self, argv: Sequence[str], environment: Mapping[str, str], cpus: Sequence[int] = ()) -> None:
        """Start the command under a guard, on some CPUs only when they are given; called once."""
        await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            sys.executable,
            "-P",
            str(GUARD),
            str(os.getpid()),
            ",".join(map(str, cpus)) or ALL_CPUS,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int | None:
        """Process id of the guard's front while it runs; the guard is its only child, and the command the guard's."""
        return None if self._transport is None or self.exited.is_set() else self._transport.get_pid()

    @property
    def exit_code(self) -> int | None:
        """Exit code of the command, or 128 + the number of the signal that ended it or its guard."""
        code = self._transport.get_returncode() if self._transport else None
        return code if code is None or code >= 0 else 128 - code

    def ask_to_stop(self, interrupt_s: float, terminate_s: float) -> None:
        """Ask the guard to end the command and all its descendants."""
        pipe = self._transport.get_pipe_transport(STDIN) if self._transport else None
        if pipe is not None and not pipe.is_closing():
            cast("asyncio.WriteTransport", pipe).write(f"stop {interrupt_s} {terminate_s}\n".encode())

    def kill(self) -> None:
        """End the guard alone."""
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()

    def close(self) -> None:
        """Let go of the pipes of a guard that has ended."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Called by the event loop."""
        self._take_lines(self._splitter.feed(data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Called by the event loop."""
        if fd == STDOUT:
            self._take_lines(self._splitter.close())
            self.closed.set()

    def process_exited(self) -> None:
        """Called by the event loop."""
        self.exited.set()
