"""Messages between the generator process and its owner: a 9-byte header (length, kind, request) and a payload.

Both ends run the same Python on the same host, so byte order is the machine's. Times are CLOCK_MONOTONIC in ns, which all processes
of a host share.
"""

from __future__ import annotations

from struct import Struct

HEADER = Struct("=IBI")
"""Payload bytes, kind, request index."""

MAX_FRAME_BYTES = 1 << 30

# Owner to generator.
CONFIGURE, ITEM, OPEN, START, CONCURRENCY, NO_MORE, ABANDON, DRAIN, CLOSE = range(1, 10)
# Generator to owner.
BEGIN, HEAD, READS, END, BEAT, OPENED, CLOSED = range(21, 28)

ITEM_FIELDS = Struct("=qqqihB")
"""Of ITEM, before the request's bytes: due time after START (-1: when a slot is free), think time, time after which the client
gives up (-1: never), conversation (-1: none), turn, whether more turns follow."""

BEGIN_FIELDS = Struct("=qqBB")
"""Of BEGIN: scheduled, sent, whether the connection had been used, whether this is the second attempt."""

HEAD_FIELDS = Struct("=hB")
"""Of HEAD, before the content type: HTTP status, framing."""

READS_HEAD = Struct("=Iq")
"""Of READS: number of reads n, distance of the clocks (`stamps.ClockOffset`); then n kernel stamps (two int64 each: seconds and
nanoseconds of CLOCK_REALTIME, zeros for none), n times of reading (int64), n times at which the poller last found nothing to read
(int64), n sizes (int32), and the bytes."""

STAMP_BYTES = 16
NO_STAMP = bytes(STAMP_BYTES)

FULL_READ_BYTES = 60 * 1024
"""A read of so many bytes or more may have left some in the socket."""

TOGETHER_NS = 500_000
"""Events of one read that arrived within this time count as one chunk; beyond it nobody knows how they were spaced."""

END_FIELDS = Struct("=qB")
"""Of END, before a text: time, one of the ENDED_* codes."""

OPENED_FIELDS = Struct("=ii")
"""Of OPENED, before a text: connections that stand, connections that failed."""

BEAT_NAMES = (
    "now_ns", "in_flight", "begun", "ended", "waiting", "starved_ns", "cpu_ns", "loop_max_ns",
    "opened", "reused", "resent", "open_failed", "clock_steps", "backlog_bytes", "reads", "connect_ns",
)  # fmt: skip
BEAT_FIELDS = Struct(f"={len(BEAT_NAMES)}q")
"""Of BEAT and CLOSED: the counters named in BEAT_NAMES, since START."""

FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE = range(3)

ENDED_WHOLE = 0
ENDED_CONNECT = 1
ENDED_LOST = 2
ENDED_CUT = 3
ENDED_INVALID = 4
ENDED_TIMEOUT = 5
ENDED_CANCELLED = 6
ENDED_LEVEL_OVER = 7


class FrameBuffer:
    """Bytes of a stream socket, cut into frames."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Add bytes; returns every whole frame as (kind, request, payload).

        Raises:
            ValueError: If a frame claims an impossible length.
        """
        buffer = self._data
        buffer += data
        frames: list[tuple[int, int, bytes]] = []
        at, end = 0, len(buffer)
        while at + 9 <= end:
            length, kind, request = HEADER.unpack_from(buffer, at)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            stop = at + 9 + length
            if stop > end:
                break
            frames.append((kind, request, bytes(buffer[at + 9 : stop])))
            at = stop
        if at:
            del buffer[:at]
        return frames


def pack(kind: int, request: int = 0, *parts: bytes) -> bytes:
    """One frame as bytes."""
    payload = b"".join(parts)
    return HEADER.pack(len(payload), kind, request) + payload
