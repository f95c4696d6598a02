"""A generator on another host: its messages are carried there and back, and its times are turned into ours.

The generator there is the same process as here and stamps with its own kernel's clock; only the clocks' distance is ours to
know. So the requests of several hosts come together in one table as exactly as their clocks were compared.
"""

from __future__ import annotations

import socket
import threading
from array import array
from typing import TYPE_CHECKING, Protocol

from tuner.load.hotpath import frames
from tuner.load.process import OwnersEnd

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_BYTES = 1 << 20
_JOIN_S = 5.0
_ABSENT = -1


class Carrier(Protocol):
    """Carries bytes to a generator on another host and back. Its methods block; any error means that the host is lost."""

    def put(self, data: bytes) -> None:
        """Hand bytes to the generator."""
        ...

    def get(self) -> bytes:
        """Bytes from the generator; waits a moment, and gives none when there are none."""
        ...

    def close(self) -> None:
        """End the generator."""
        ...


class RelayedGenerator(OwnersEnd):
    """A generator on another host."""

    def __init__(self, carrier: Carrier, offset_ns: int, pid: int = 0) -> None:
        """Begin to carry messages.

        Args:
            carrier: Leads to a generator that has just started.
            offset_ns: Our CLOCK_MONOTONIC minus that of the other host.
            pid: Its process id there.
        """
        ours, relay = socket.socketpair()
        super().__init__(ours, pid)
        self._carrier = carrier
        self._relay = relay
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(work, offset_ns), name="load-relay", daemon=True)
            for work in (self._carry_out, self._carry_back)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the generator there and the carrying."""
        self._ended.set()
        super().close()
        self._carrier.close()
        for thread in self._threads:
            thread.join(_JOIN_S)
        self._relay.close()

    def _run(self, work: Callable[[int], None], offset_ns: int) -> None:
        try:
            work(offset_ns)
        except Exception:  # whatever the carrier raises: the host is lost, and the other end learns it by the socket  # noqa: BLE001
            self._ended.set()
        self._relay.shutdown(socket.SHUT_RDWR)

    def _carry_out(self, offset_ns: int) -> None:
        buffer = frames.FrameBuffer()
        while data := self._relay.recv(_CHUNK_BYTES):
            messages = [
                frames.pack(kind, number, outward(kind, load, offset_ns)) for kind, number, load in buffer.feed(data)
            ]
            if messages:
                self._carrier.put(b"".join(messages))

    def _carry_back(self, offset_ns: int) -> None:
        buffer = frames.FrameBuffer()
        while not self._ended.is_set():
            for kind, number, payload in buffer.feed(self._carrier.get()):
                self._relay.sendall(frames.pack(kind, number, inward(kind, payload, offset_ns)))


def outward(kind: int, payload: bytes, offset_ns: int) -> bytes:
    """A message to the other host, with its times in that host's clock."""
    return str(int(payload) - offset_ns).encode() if kind == frames.START else payload


def inward(kind: int, payload: bytes, offset_ns: int) -> bytes:
    """A message from the other host, with its times in our clock."""
    if kind == frames.BEGIN:
        scheduled_ns, sent_ns, *rest = frames.BEGIN_FIELDS.unpack(payload)
        return frames.BEGIN_FIELDS.pack(_moved(scheduled_ns, offset_ns), _moved(sent_ns, offset_ns), *rest)
    if kind == frames.END:
        end_ns, code = frames.END_FIELDS.unpack_from(payload)
        return frames.END_FIELDS.pack(_moved(end_ns, offset_ns), code) + payload[frames.END_FIELDS.size :]
    if kind in (frames.BEAT, frames.CLOSED):
        now_ns, *rest = frames.BEAT_FIELDS.unpack(payload)
        return frames.BEAT_FIELDS.pack(_moved(now_ns, offset_ns), *rest)
    return _reads(payload, offset_ns) if kind == frames.READS else payload


def _reads(payload: bytes, offset_ns: int) -> bytes:
    """READS: kernel stamps are of the other host's wall clock, and its distance from the monotonic clock goes with them."""
    count, distance_ns = frames.READS_HEAD.unpack_from(payload)
    stamps_end = frames.READS_HEAD.size + count * frames.STAMP_BYTES
    times_end = stamps_end + 2 * count * 8
    times = array("q", payload[stamps_end:times_end])
    moved = array("q", (_moved(time_ns, offset_ns) for time_ns in times))
    head = frames.READS_HEAD.pack(count, distance_ns - offset_ns)
    return b"".join((head, payload[frames.READS_HEAD.size : stamps_end], moved.tobytes(), payload[times_end:]))


def _moved(time_ns: int, offset_ns: int) -> int:
    return time_ns if time_ns in (0, _ABSENT) else time_ns + offset_ns
