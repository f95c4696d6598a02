"""From queued requests to tokens on the wire: what every dialect's generating endpoints share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engines.simulated.model import GenerationRequest, RequestState
    from engines.simulated.pacing import PacedEngine

EVENT_STREAM = "text/event-stream; charset=utf-8"


class StreamEvents(Protocol):
    """Makes the bytes of one streamed answer in a dialect's shape."""

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        """Return what precedes the first token; empty for nothing."""
        ...

    def tokens(
        self, request_id: int, first: int, last: int, finish: str | None, prompt_tokens: int, cached_tokens: int
    ) -> bytes:
        """Return the event that carries tokens ``first`` to ``last``, the last one excluded."""
        ...


class WholeAnswer:
    """Collects one prompt's tokens until it is finished."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    def token(self, state: RequestState) -> None:
        """Wake the handler when the last token is there."""
        if state.finish_reason is not None:
            self.done.set()


class StreamedAnswer:
    """Writes one prompt's tokens straight to the connection, with no task switch for a token.

    aiohttp has sent the headers of a chunked response by then; the chunks are framed here.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        events: StreamEvents,
        stream_interval: int,
        cut_after_tokens: int | None,
    ) -> None:
        self.done = asyncio.Event()
        self._transport = transport
        self._events = events
        self._interval = stream_interval
        self._cut_after = cut_after_tokens
        self._sent_tokens = 0

    def token(self, state: RequestState) -> None:
        """Send what is due: the first token, the last, and every ``stream_interval``-th (trtllm contract 4.3)."""
        generated = state.generated_tokens
        finish = state.finish_reason
        if finish is None and generated != 1 and generated % self._interval:
            return
        prompt_tokens, cached = state.request.prompt_tokens, state.cached_tokens
        event = self._events.tokens(state.id, self._sent_tokens, generated, finish, prompt_tokens, cached)
        frame = b"%x\r\n%b\r\n" % (len(event), event)
        if self._sent_tokens == 0:
            opening = self._events.opening(prompt_tokens, cached)
            if opening:
                frame = b"%x\r\n%b\r\n%b" % (len(opening), opening, frame)
        self._transport.write(frame)
        self._sent_tokens = generated
        if self._cut_after is not None and generated >= self._cut_after:
            self._transport.close()
        if finish is not None:
            self.done.set()


class Answering:
    """Submits requests to the engine and waits for, or streams, their tokens."""

    def __init__(self, engine: PacedEngine, cut_after_tokens: int | None = None) -> None:
        """Get ready.

        Args:
            engine: where requests go.
            cut_after_tokens: cut every stream after so many tokens, None never.
        """
        self.engine = engine
        self._cut_after = cut_after_tokens

    async def collect(self, jobs: Sequence[GenerationRequest]) -> list[RequestState]:
        """Run requests to their end; they are cancelled when the client goes away."""
        sinks = [WholeAnswer() for _ in jobs]
        states = [self.engine.submit(job, sink) for job, sink in zip(jobs, sinks, strict=True)]
        try:
            for sink in sinks:
                await sink.done.wait()
        finally:
            self._abort(states)
        return states

    async def stream(
        self,
        request: web.Request,
        jobs: Sequence[GenerationRequest],
        events: Sequence[StreamEvents],
        tail: Callable[[list[RequestState]], bytes],
        content_type: str = EVENT_STREAM,
    ) -> web.StreamResponse:
        """Stream requests on one connection.

        Args:
            request: whose answer it is.
            jobs: requests, one for each choice.
            events: shapes of their events.
            tail: called when all are done; its bytes end the stream.
            content_type: value of that header.
        """
        response = web.StreamResponse(headers={"Content-Type": content_type})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"")  # the headers leave now, as uvicorn's do
        transport = request.transport
        if transport is None:  # gone already
            return response
        interval = self.engine.simulation.config.stream_interval
        sinks = [StreamedAnswer(transport, event, interval, self._cut_after) for event in events]
        states = [self.engine.submit(job, sink) for job, sink in zip(jobs, sinks, strict=True)]
        try:
            for sink in sinks:
                await sink.done.wait()
        finally:
            self._abort(states)
        await response.write_eof(tail(states))
        return response

    def _abort(self, states: Sequence[RequestState]) -> None:
        """Cancel what is unfinished, which is something only when the client went away."""
        for state in states:
            if state.finish_reason is None:
                self.engine.abort(state)


def served_name(model: str, override: str | None) -> str:
    """Return the model id: the override, else a local folder's name, else MODEL as typed (trtllm contract 2.1)."""
    if override:
        return override
    return Path(model).resolve().name if Path(model).is_dir() else model
