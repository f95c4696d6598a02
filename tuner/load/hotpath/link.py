"""The generator's end of the socket to its owner: frames out without ever waiting, unless the backlog would outgrow memory."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from tuner.load.hotpath.frames import HEADER, READS, READS_HEAD, FrameBuffer

if TYPE_CHECKING:
    import socket

MAX_BACKLOG_BYTES = 32 * 1024 * 1024
"""Beyond this the generator waits for its owner, which then shows as lag of its own."""


class OwnerGone(Exception):
    """The owner has closed its end, or has died: there is nobody left to work for."""


class Link:
    """Frames to and from the owner.

    Attributes:
        queued_bytes: Bytes waiting to be written.
        flushed_ns: When bytes were last handed to the kernel.
        urgent: Whether the owner has to answer what is queued before the load can go on.
    """

    __slots__ = ("_frames", "_queue", "_sock", "flushed_ns", "queued_bytes", "urgent")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._frames = FrameBuffer()
        self._queue = bytearray()
        self.queued_bytes = 0
        self.flushed_ns = 0
        self.urgent = False

    def fileno(self) -> int:
        """For polling."""
        return self._sock.fileno()

    def receive(self) -> list[tuple[int, int, bytes]]:
        """Frames that have come in.

        Raises:
            OwnerGone: If the other end is closed.
        """
        try:
            data = self._sock.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError as error:
            raise OwnerGone from error
        if not data:
            raise OwnerGone
        return self._frames.feed(data)

    def send(self, kind: int, request: int, *payload: bytes) -> None:
        """Queue a frame."""
        queue = self._queue
        queue += HEADER.pack(sum(map(len, payload)), kind, request)
        for part in payload:
            queue += part
        self.queued_bytes = len(queue)

    def send_reads(self, request: int, offset_ns: int, reads: list[Any]) -> None:
        """Queue the reads of a request, as `Exchange.unfollowed` holds them."""
        parts = reads[::4]
        self.send(
            READS,
            request,
            READS_HEAD.pack(len(parts), offset_ns),
            *reads[1::4],
            array("q", reads[2::4]).tobytes(),
            array("q", reads[3::4]).tobytes(),
            array("i", map(len, parts)).tobytes(),
            *parts,
        )

    def flush(self, now_ns: int) -> None:
        """Hand queued bytes to the kernel, as many as it takes; waits only when the backlog is too long.

        Raises:
            OwnerGone: If the other end is closed.
        """
        self.flushed_ns = now_ns
        self.urgent = False
        queue = self._queue
        while queue:
            if len(queue) > MAX_BACKLOG_BYTES:
                self._sock.setblocking(True)
            try:
                written = self._sock.send(queue)
            except BlockingIOError:
                break
            except OSError as error:
                raise OwnerGone from error
            finally:
                self._sock.setblocking(False)
            del queue[:written]
        self.queued_bytes = len(queue)
