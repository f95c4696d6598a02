"""Servers for tests: an OpenAI completions server in the test's own event loop, as good or as bad as the test wants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@dataclass
class Seen:
    """What a server was asked, in order.

    Attributes:
        bodies: JSON bodies of the requests.
        heads: Heads of the requests.
        connections: Connections that were accepted.
    """

    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0


@dataclass
class Exchange:
    """One request and the way to answer it."""

    body: dict[str, Any]
    writer: asyncio.StreamWriter
    number: int
    number_on_connection: int

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def event(self, data: bytes) -> None:
        """Write one event as one HTTP chunk."""
        payload = b"data: " + data + b"\n\n"
        await self.send(b"%x\r\n%b\r\n" % (len(payload), payload))

    async def token(self, text: str = "a", finish: str | None = None) -> None:
        """Write one token."""
        await self.event(
            orjson.dumps({"choices": [{"index": 0, "text": text, "finish_reason": finish}], "usage": None})
        )

    async def usage(self, tokens: int) -> None:
        """Write the usage event."""
        counts = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
        await self.event(orjson.dumps({"choices": [], "usage": counts}))

    async def whole(self, gap_s: float = 0.0) -> None:
        """Answer as a good server does."""
        await self.send(HEAD)
        count = self.body["max_tokens"]
        for place in range(count):
            await asyncio.sleep(gap_s)
            await self.token(finish="length" if place + 1 == count else None)
        await self.usage(count)
        await self.event(b"[DONE]")
        await self.send(END)


Script = Callable[[Exchange], Awaitable[bool | None]]
"""Answers a request; True closes the connection afterwards."""


@asynccontextmanager
async def serving(
    script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[str, Seen]]:
    """Run a server; gives its base URL and what it was asked."""
    seen = Seen()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        on_connection = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = orjson.loads(await reader.readexactly(length))
                seen.heads.append(head)
                seen.bodies.append(body)
                exchange = Exchange(body, writer, len(seen.bodies) - 1, on_connection)
                on_connection += 1
                if await script(exchange):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=tls, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"{'https' if tls else 'http'}://{shown}:{port}", seen
    finally:
        server.close()
