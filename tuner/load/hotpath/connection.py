"""A non-blocking connection to the server, plain or TLS, that knows the kernel's receive times where there are any."""

from __future__ import annotations

import socket
from errno import EINPROGRESS
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from tuner.load.hotpath.frames import NO_STAMP, STAMP_BYTES
from tuner.load.hotpath.stamps import ANCILLARY_BYTES, enable_kernel_time

if TYPE_CHECKING:
    import ssl

    from tuner.load.hotpath.exchange import Exchange, Item
    from tuner.load.hotpath.settings import Settings

SMALL_READ_BYTES = 4 * 1024
READ_BYTES = 64 * 1024
"""Bytes asked for at a time: few, which costs less and is enough for a token at a time, and many where it was not."""

CONNECTING, HANDSHAKE, IDLE, SENDING, READING = range(5)

IN, OUT = 1, 4
"""EPOLLIN and EPOLLOUT, which are POLLIN and POLLOUT as well."""

Ancillary = list[tuple[int, int, bytes]]
Received = tuple[bytes, Ancillary, int, Any]
"""What `recvmsg` returns."""

_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)


class ConnectionLost(Exception):
    """The server closed the connection, or it broke; the text says how."""


class Connection:
    """A connection and what it is doing.

    Attributes:
        state: One of CONNECTING, HANDSHAKE, IDLE, SENDING, READING.
        served: Requests it has carried before.
        opened_ns: When connecting began.
        waiting: Request to send as soon as it stands.
        exchange: Request under way.
        kernel_time: Whether reads carry the kernel's receive time.
        read_bytes: How much the next read asks for: more once SMALL_READ_BYTES were not enough.
        sock: The socket itself, for the quick way.
    """

    __slots__ = (
        "_out",
        "_tls",
        "exchange",
        "fd",
        "kernel_time",
        "opened_ns",
        "read_bytes",
        "served",
        "sock",
        "state",
        "waiting",
        "wants",
    )

    def __init__(self, settings: Settings, waiting: Item | None) -> None:
        sock = socket.socket(settings.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock: socket.socket = sock
        self._tls: ssl.SSLSocket | None = None
        self._out = memoryview(b"")
        self.read_bytes = SMALL_READ_BYTES
        self.kernel_time = not settings.tls and enable_kernel_time(sock)
        self.state = CONNECTING
        self.served = 0
        self.opened_ns = monotonic_ns()
        self.waiting = waiting
        self.exchange: Exchange | None = None
        self.wants = OUT
        self.fd = sock.fileno()
        code = sock.connect_ex((settings.host, settings.port))
        if code not in (0, EINPROGRESS):
            sock.close()
            raise OSError(code, _error_text(code))

    def established(self, context: ssl.SSLContext | None, server_name: str) -> bool:
        """The socket has become writable while connecting; returns whether requests can be sent now.

        Raises:
            OSError: If connecting or the TLS handshake failed.
        """
        if self.state == CONNECTING:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, _error_text(code))
            if context is None:
                self.state, self.wants = IDLE, IN
                return True
            self._tls = context.wrap_socket(self.sock, server_hostname=server_name, do_handshake_on_connect=False)
            self.sock = self._tls
            self.state = HANDSHAKE
        return self._shake_hands()

    def _shake_hands(self) -> bool:
        import ssl

        if self._tls is None:
            return False
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.wants = IN
            return False
        except ssl.SSLWantWriteError:
            self.wants = OUT
            return False
        self.state, self.wants = IDLE, IN
        return True

    def is_alive(self) -> bool:
        """Whether an idle connection still stands and holds no unasked bytes."""
        if self._tls is not None:
            return True
        try:
            self.sock.recv(1, socket.MSG_PEEK | _DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def is_quiet(self) -> bool:
        """Whether an idle connection was woken by TLS alone, whose session tickets come after the handshake."""
        if self._tls is None:
            return False
        try:
            self._tls.recv(1)
        except OSError as error:
            return _tls_wants_more(error)
        return False

    def send(self, payload: bytes) -> None:
        """Write a request, as much of it as the kernel takes; `send_rest` writes the remainder.

        Raises:
            ConnectionLost: If the connection is broken.
        """
        self._out = memoryview(payload)
        self.send_rest()

    def send_rest(self) -> None:
        """Go on writing; the state is SENDING until all is written.

        Raises:
            ConnectionLost: If the connection is broken.
        """
        try:
            written = self.sock.send(self._out)
        except BlockingIOError:
            written = 0
        except OSError as error:
            if not _tls_wants_more(error):
                raise ConnectionLost(_error_text(error.errno)) from None
            written = 0
        self._out = self._out[written:]
        self.state, self.wants = (SENDING, IN | OUT) if len(self._out) else (READING, IN)

    def receive(self) -> tuple[bytes, bytes, int]:
        """Read once: bytes (empty when there are none yet), the kernel's stamp, and the time of reading.

        Raises:
            ConnectionLost: If the server has closed the connection (empty text) or it broke.
        """
        stamp = NO_STAMP
        try:
            if self.kernel_time:
                data, ancillary, _, _ = self.sock.recvmsg(self.read_bytes, ANCILLARY_BYTES)
                data, stamp = self.complete(data, ancillary)
            else:
                data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return b"", NO_STAMP, monotonic_ns()
        except OSError as error:
            if _tls_wants_more(error):
                return b"", NO_STAMP, monotonic_ns()
            raise ConnectionLost(_error_text(error.errno)) from None
        if not data:
            raise ConnectionLost("")
        return data, stamp, monotonic_ns()

    def complete(self, data: bytes, ancillary: Ancillary) -> tuple[bytes, bytes]:
        """A small read with what more there was, so that the socket is known to be empty then; and the kernel's stamp of it."""
        if len(data) < SMALL_READ_BYTES:
            self.read_bytes = SMALL_READ_BYTES
        elif self.read_bytes == SMALL_READ_BYTES:
            self.read_bytes = READ_BYTES
            try:
                rest, newer, _, _ = self.sock.recvmsg(READ_BYTES, ANCILLARY_BYTES)
            except BlockingIOError:
                rest, newer = b"", []
            data += rest
            ancillary = newer or ancillary
        if ancillary and len(ancillary[0][2]) == STAMP_BYTES:
            return data, ancillary[0][2]
        return data, NO_STAMP

    def pending(self) -> bool:
        """Whether TLS holds decrypted bytes that polling does not show."""
        return self._tls is not None and self._tls.pending() > 0

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def make_tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context of a level, or None for plain HTTP."""
    if not settings.tls:
        return None
    import ssl

    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if not settings.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _tls_wants_more(error: OSError) -> bool:
    return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def _error_text(code: int | None) -> str:
    import os

    return os.strerror(code) if code else "the connection broke"
