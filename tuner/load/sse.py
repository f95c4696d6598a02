"""Server-sent events out of an HTTP body: framing taken off, bytes cut into events.

Follows the event stream format of the WHATWG HTML standard (section 9.2): lines end with LF, CRLF or CR, an empty line
ends an event, lines that start with a colon are comments, several `data` lines are joined by LF. Unlike a browser, an
event that the end of the body cuts off is given out as well: whether it is whole is the reader's question.
"""

from __future__ import annotations

from tuner.load.hotpath.answer import MAX_CHUNK_LINE_BYTES, chunk_size
from tuner.load.hotpath.frames import FRAMING_CHUNKED

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Longest event accepted; one that never ends must not fill the memory."""


Event = tuple[str, bytes]
"""One event: its name (empty for the usual unnamed ones) and its data."""


class Dechunker:
    """Takes chunked framing off a body, in whatever pieces it comes.

    Attributes:
        finished: Whether the last chunk has come; what follows is ignored.
        fault: What is wrong with the framing, or ""; what follows is ignored too.
    """

    __slots__ = ("_left", "_line", "_tail", "fault", "finished")

    def __init__(self) -> None:
        self.finished = False
        self.fault = ""
        self._left = 0
        self._tail = 0
        self._line = b""

    @property
    def between_chunks(self) -> bool:
        """Whether the bytes so far end exactly with a chunk."""
        return not (self._left or self._tail or self._line or self.finished or self.fault)

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`."""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        if self.between_chunks:
            at = self._take_whole_chunks(data, pieces)
        while at < end and not self.finished and not self.fault:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._tail = 0 if self._left else 2
            elif self._tail:
                step = min(self._tail, end - at)
                at += step
                self._tail -= step
            else:
                stop = data.find(b"\n", at)
                self._line += data[at:] if stop < 0 else data[at:stop]
                if len(self._line) > MAX_CHUNK_LINE_BYTES:
                    self.fault = "a chunk header without end"
                if stop < 0:
                    break
                at = stop + 1
                self._begin_chunk(chunk_size(self._line))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_whole_chunks(self, data: bytes, pieces: list[bytes]) -> int:
        """The quick way through chunks that lie in one piece; returns where it ended."""
        at, end = 0, len(data)
        while at < end:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                return at
            start = line_end + 2
            stop = start + chunk_size(data[at:line_end])
            if stop <= start or stop + 2 > end:
                return at
            pieces.append(data[start:stop])
            at = stop + 2
        return at

    def _begin_chunk(self, size: int) -> None:
        self._line = b""
        self._left = max(size, 0)
        self.finished = size == 0
        if size < 0:
            self.fault = self.fault or "a chunk header that is no number"


class EventSplitter:
    """Cuts a byte stream into events.

    Attributes:
        fault: What is wrong with the stream, or ""; events before the fault have been given out.
        at_chunk: Whether the next byte is the first of a chunk, and of an event.
    """

    __slots__ = ("_chunked", "_rest", "_started", "_wire_cr", "at_chunk", "fault")

    def __init__(self, framing: int) -> None:
        self.fault = ""
        self._chunked = Dechunker() if framing == FRAMING_CHUNKED else None
        self._rest = b""
        self._wire_cr = False
        self._started = False
        self.at_chunk = self._chunked is not None

    @property
    def partial(self) -> bool:
        """Whether the bytes so far end within an event."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Event]:
        """Events completed by `data`, in order."""
        events = self._cut(data)
        self.at_chunk = self._chunked is not None and self._chunked.between_chunks
        self.at_chunk = self.at_chunk and not (self._rest or self._wire_cr or self.fault)
        return events

    def _cut(self, data: bytes) -> list[Event]:
        if self._chunked is not None:
            data = self._chunked.feed(data)
            self.fault = self.fault or self._chunked.fault
        if b"\r" in data or self._wire_cr:
            data = self._unify_line_ends(data)
        if not self._started and data:
            self._started = True
            data = data.removeprefix(b"\xef\xbb\xbf")
        if self._rest:
            data = self._rest + data
        blocks = data.split(b"\n\n")
        self._rest = blocks.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            self.fault = self.fault or f"an event longer than {MAX_EVENT_BYTES} bytes"
            self._rest = b""
        events: list[Event] = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(("", block[6:]))
            else:
                event = _parse_block(block)
                if event is not None:
                    events.append(event)
        return events

    def close(self) -> list[Event]:
        """The event the end of the body cut off, if any."""
        rest, self._rest = self._rest, b""
        event = _parse_block(rest)
        return [] if event is None else [event]

    def _unify_line_ends(self, data: bytes) -> bytes:
        """LF for CRLF and CR. A CR is turned into LF at once; an LF right after it, even in the next read, belongs to it."""
        if self._wire_cr and data:
            data = data.removeprefix(b"\n")
            self._wire_cr = False
        if data.endswith(b"\r"):
            self._wire_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _parse_block(block: bytes) -> Event | None:
    name = ""
    parts: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            parts.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    if not parts:
        return None
    return (name, b"\n".join(parts))
