"""The owner's end of a generator process: start, messages, counters, end.

The process ends by itself when this end of the socket closes, however its owner dies; nothing is left behind.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.load.errors import GeneratorLost
from tuner.load.hotpath import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.load.plan import PlannedRequest

RECEIVE_BYTES = 128 * 1024
"""Messages taken at a time: parsing them must not keep new requests waiting for long."""

_SOCKET_BYTES = 4 * 1024 * 1024
_END_TIMEOUT_S = 2.0
_SEND_TIMEOUT_S = 30.0
_BOOT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import tuner.load.hotpath.__main__ as generator
generator.main()
"""


class OwnersEnd:
    """The owner's end of one generator, wherever it runs.

    Attributes:
        counts: The latest counters of the level, by the names of `frames.BEAT_NAMES`.
        pid: Its process id, on its own host.
        handed: Requests handed to it that have not begun.
    """

    def __init__(self, sock: socket.socket, pid: int) -> None:
        """Take the socket that leads to the generator."""
        self.pid = pid
        self._sock = sock
        self._sock.settimeout(_SEND_TIMEOUT_S)
        self._buffer = frames.FrameBuffer()
        self.counts = dict.fromkeys(frames.BEAT_NAMES, 0)
        self.handed = 0

    def fileno(self) -> int:
        """For polling."""
        return self._sock.fileno()

    def send(self, kind: int, number: int = 0, *payload: bytes) -> None:
        """Send one message.

        Raises:
            GeneratorLost: If the process is gone or takes nothing any more.
        """
        self.send_packed(frames.pack(kind, number, *payload))

    def send_packed(self, data: bytes) -> None:
        """Send messages that are packed already.

        Raises:
            GeneratorLost: If the process is gone or takes nothing any more.
        """
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise GeneratorLost(f"the generator process ended ({error.strerror or 'no answer'})") from None

    def receive(self) -> list[tuple[int, int, bytes]]:
        """Messages that have come in; counters are taken out of them as well.

        Raises:
            GeneratorLost: If the process is gone.
        """
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except OSError as error:
            raise GeneratorLost(f"the generator process ended ({error.strerror or 'no answer'})") from None
        if not data:
            raise GeneratorLost(f"the generator process ended{self._how()}")
        received = self._buffer.feed(data)
        for kind, _, payload in received:
            if kind in (frames.BEAT, frames.CLOSED):
                self.counts = dict(zip(frames.BEAT_NAMES, frames.BEAT_FIELDS.unpack(payload), strict=True))
        return received

    def close(self) -> None:
        """End the generator."""
        self._sock.close()

    def _how(self) -> str:
        """How it ended, in words, where that is known."""
        return ""


class GeneratorProcess(OwnersEnd):
    """A generator process of this host."""

    def __init__(self) -> None:
        """Start it; it is ready for messages at once, since they wait in the socket."""
        ours, self._process = start_generator()
        super().__init__(ours, self._process.pid)

    def close(self) -> None:
        """End the process and wait for it."""
        super().close()
        end_generator(self._process)

    def _how(self) -> str:
        return f" with exit code {self._process.poll()}"


def start_generator(words: Sequence[str] = ()) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a generator process; returns the socket that leads to it.

    Args:
        words: A program that starts it, such as `taskset`, with its arguments; none: it is started directly.
    """
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
    # Without site, environment and user folders it starts in tens of milliseconds, and needs nothing outside the
    # standard library.
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [*words, sys.executable, "-S", "-E", "-s", "-c", _BOOT, root, str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    theirs.close()
    return ours, process


def end_generator(process: subprocess.Popen[bytes]) -> None:
    """Wait for a generator whose socket is closed, and end it if it does not end by itself."""
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pack_request(planned: PlannedRequest) -> bytes:
    """A planned request as an ITEM message."""
    fields = frames.ITEM_FIELDS.pack(
        planned.due_ns, planned.think_ns, planned.cancel_after_ns, planned.session, planned.turn, planned.more
    )
    return frames.pack(frames.ITEM, planned.index, fields, planned.payload)
