"""From a bound port to a clean exit: what every dialect's server process shares."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AsyncExitStack

_BACKLOG: Final = 2048
_KEEP_ALIVE_S: Final = 5.0
"""uvicorn's keep-alive (contract section 2.2)."""

_SHUTDOWN_S: Final = 0.5
"""How long a stop waits for answers in progress, twice: first for the handlers, then for the connections."""


class StopRequestedError(Exception):
    """SIGINT or SIGTERM came while the server was starting."""


def bind(host: str, port: int) -> socket.socket:
    """Bind without listening: connections are refused until the server is ready (contract section 1.5).

    Raises:
        OSError: the address cannot be bound.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


class StopSignal:
    """Turns SIGINT and SIGTERM into something to wait for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._event.set)

    async def wait(self) -> None:
        """Return when a signal has come."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait that long.

        Raises:
            StopRequestedError: a signal came first.
        """
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        raise StopRequestedError


async def start_site(stack: AsyncExitStack, app: web.Application, bound: socket.socket) -> None:
    """Begin to listen on a bound socket; the stack's end stops it."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=_KEEP_ALIVE_S,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, bound, backlog=_BACKLOG).start()


def run_until_done(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a server's coroutine on the fastest event loop there is and return its exit code."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
