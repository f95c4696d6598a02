"""Requests on connections: open, send, read, end, each within its limits."""

from __future__ import annotations

from errno import EMFILE
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from tuner.load.hotpath import frames
from tuner.load.hotpath.answer import BadAnswer
from tuner.load.hotpath.connection import (
    CONNECTING,
    HANDSHAKE,
    IDLE,
    IN,
    READING,
    SENDING,
    SMALL_READ_BYTES,
    Connection,
    ConnectionLost,
    make_tls_context,
)
from tuner.load.hotpath.exchange import FLUSH_NS, Exchange
from tuner.load.hotpath.limits import limit_reached, limit_text
from tuner.load.hotpath.pause import Pause
from tuner.load.hotpath.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.load.hotpath.connection import Ancillary, Received
    from tuner.load.hotpath.exchange import Item
    from tuner.load.hotpath.link import Link
    from tuner.load.hotpath.poller import Poller
    from tuner.load.hotpath.settings import Settings
    from tuner.load.hotpath.stamps import ClockOffset

MAX_CONNECTING = 64
"""Connections opened at the same time at most: listen queues of common servers hold 100 to 2048."""

FAILURE_PAUSE_NS = 20_000_000
"""Pause of all sending after a failed connection, so that a dead server is not asked thousands of times a second."""

RESENT_BEFORE_NO_REUSE = 3
"""After so many requests lost on used connections, a server that closes them in spite of keep-alive gets fresh ones only."""


class Traffic:
    """The connections of one level and what goes over them.

    Attributes:
        schedule: Requests not sent yet.
        connections: Every open connection by descriptor.
        counts: Counters, by the names of `frames.BEAT_NAMES`.
        paused_until_ns: No request is sent before.
        opening: Whether connections are being opened ahead of the start.
        pause: How long the loop may sleep between two looks.
        quick: The quick way, by descriptor: where to keep a read as it is, and how to read.
    """

    def __init__(self, settings: Settings, link: Link, poller: Poller, clock: ClockOffset) -> None:
        self.schedule = Schedule(
            closed_loop=bool(settings.closed_loop), slots=settings.concurrency, ramp_ns=settings.ramp_ns
        )
        self.connections: dict[int, Connection] = {}
        self.counts = dict.fromkeys(frames.BEAT_NAMES, 0)
        self.paused_until_ns = 0
        self.opening = False
        self.pause = Pause()
        self.quick: dict[int, tuple[list[Any], Callable[[int, int], Received]]] = {}
        self._piled = 0
        self._tick_counts = (0, 0)
        self._settings = settings
        self._link = link
        self._poller = poller
        self._clock = clock
        self._tls_context = make_tls_context(settings)
        self._idle: list[Connection] = []
        self._to_open = 0
        self._connecting = 0
        self._reuse = settings.reuse != 0
        self._first_failure = ""

    def open_ahead(self, connections: int) -> None:
        """Open connections before the start; OPENED tells the owner when all are decided."""
        self._to_open = connections
        self.opening = True
        self._open_more(monotonic_ns())

    def send_due(self) -> None:
        """Send every request whose time has come."""
        now_ns = monotonic_ns()
        if now_ns < self.paused_until_ns:
            return
        item = self.schedule.next_item(now_ns)
        while item is not None:
            self._dispatch(item)
            now_ns = monotonic_ns()
            if now_ns < self.paused_until_ns:
                return
            item = self.schedule.next_item(now_ns)
        self._keep_reserve(now_ns)

    def on_answer(self, connection: Connection, empty_ns: int) -> None:
        """Read once from a connection with a request under way."""
        exchange = connection.exchange
        if exchange is None:
            return
        try:
            data, stamp, user_ns = connection.receive()
        except ConnectionLost as error:
            self._on_lost(connection, monotonic_ns(), str(error))
            return
        if data:
            self.take(connection, exchange, data, stamp, user_ns, empty_ns)

    def take(
        self, connection: Connection, exchange: Exchange, data: bytes, stamp: bytes, user_ns: int, empty_ns: int
    ) -> None:
        """Account for what was read from a connection."""
        self.counts["reads"] += 1 + len(exchange.unfollowed) // 4
        started = exchange.body_started
        try:
            whole = exchange.take(data, stamp, user_ns, empty_ns)
        except BadAnswer as error:
            self._finish(connection, user_ns, frames.ENDED_INVALID, str(error))
            return
        if whole:
            self._finish(connection, user_ns, frames.ENDED_WHOLE)
            return
        if not started and exchange.body_started:
            self.pause.note_first(user_ns - exchange.sent_ns)
        self._choose_way(connection, exchange)
        if connection.pending():
            self.on_answer(connection, user_ns)

    def on_quick_broken(self, fd: int, error: OSError) -> None:
        """A connection broke while it was read on the quick way."""
        self._on_lost(self.connections[fd], monotonic_ns(), _failure_text(error))

    def on_quick_other(self, fd: int, data: bytes, ancillary: Ancillary, empty_ns: int) -> None:
        """A read of the quick way that is not just another chunk with events."""
        del self.quick[fd]
        connection = self.connections[fd]
        exchange = connection.exchange
        if exchange is None:
            return
        user_ns = monotonic_ns()
        if not data:
            self._on_lost(connection, user_ns, "")
            return
        data, stamp = connection.complete(data, ancillary)
        self.take(connection, exchange, data, stamp, user_ns, empty_ns)

    def on_other(self, connection: Connection, mask: int, empty_ns: int) -> None:
        """Something happened to a connection that is not just reading."""
        now_ns = monotonic_ns()
        if connection.state in (CONNECTING, HANDSHAKE):
            self._on_connecting(connection, now_ns)
        elif connection.state == IDLE:
            # Nothing was asked, so this is the server closing, or talking out of turn.
            if not connection.is_quiet():
                self._idle.remove(connection)
                self._drop(connection)
        elif connection.state == SENDING:
            if mask & IN:
                self.on_answer(connection, empty_ns)
            if connection.state == SENDING and connection.fd in self.connections:
                self._continue_sending(connection, now_ns)

    def look_after(self, now_ns: int, tick_ns: int) -> None:
        """Once a tick of the given length: end what has taken too long, pass on what has waited, adapt the pause."""
        age_ns = in_flight = 0
        for connection in list(self.connections.values()):
            exchange = connection.exchange
            if exchange is not None:
                in_flight += 1
                age_ns += now_ns - exchange.sent_ns
                over = limit_reached(self._settings, exchange, now_ns)
                if over is not None:
                    self._finish(connection, now_ns, *over)
                else:
                    self._settle(connection, exchange, now_ns)
            elif connection.state in (CONNECTING, HANDSHAKE):
                self._limit_connecting(connection, now_ns)
        reads, ended = self.counts["reads"], self.counts["ended"]
        reads_before, ended_before = self._tick_counts
        self._tick_counts = (reads, ended)
        self.pause.adapt(
            tick_ns,
            in_flight,
            reads - reads_before,
            piled=self._piled,
            ended=ended - ended_before,
            age_ns=age_ns // max(in_flight, 1),
        )
        self._piled = 0

    def settle(self, fd: int, now_ns: int) -> None:
        """Catch up with the quick way of a connection."""
        connection = self.connections[fd]
        if connection.exchange is not None:
            self._settle(connection, connection.exchange, now_ns)

    def _settle(self, connection: Connection, exchange: Exchange, now_ns: int) -> None:
        """Catch up with the quick way, and pass on what has waited long enough."""
        reads = exchange.unfollowed
        try:
            chunks = exchange.settle()
        except BadAnswer as error:
            self._finish(connection, now_ns, frames.ENDED_INVALID, str(error))
            return
        if exchange.answer.finished:
            self._finish(connection, now_ns, frames.ENDED_WHOLE)
            return
        self.counts["reads"] += len(reads) // 4
        if chunks > len(reads) // 4:
            self._piled += self.pause.piled(reads)
        if reads:
            self._choose_way(connection, exchange)
        if now_ns - exchange.flushed_ns > FLUSH_NS:
            exchange.flush(now_ns)

    def _choose_way(self, connection: Connection, exchange: Exchange) -> None:
        """Read a connection on the quick way from now on, if it is fit for it."""
        small = connection.kernel_time and connection.read_bytes == SMALL_READ_BYTES
        if small and connection.state == READING and exchange.fit_for_quick_way:
            self.quick[connection.fd] = exchange.unfollowed, connection.sock.recvmsg
        else:
            self.quick.pop(connection.fd, None)

    def _limit_connecting(self, connection: Connection, now_ns: int) -> None:
        """Give up a connection that does not come about."""
        limit_ns = self._settings.connect_timeout_ns
        if now_ns - connection.opened_ns > limit_ns:
            self._connecting -= 1
            self._drop(connection)
            self._on_connect_failed(connection.waiting, now_ns, limit_text("no connection", limit_ns))
            if self.opening:
                self._open_more(now_ns)

    def cut_off(self) -> None:
        """End everything that is in flight, and close every connection."""
        now_ns = monotonic_ns()
        self.schedule.drain()
        for connection in list(self.connections.values()):
            if connection.exchange is not None:
                self._finish(connection, now_ns, frames.ENDED_LEVEL_OVER, "the level was over")
            self._drop(connection)
        self._idle.clear()

    def _open_more(self, now_ns: int) -> None:
        """Open connections ahead of the start, some at a time; report when all are decided."""
        while self._to_open and self._connecting < MAX_CONNECTING:
            self._to_open -= 1
            self._open_connection(None, now_ns)
        if self.opening and not self._to_open and not self._connecting:
            self.opening = False
            fields = frames.OPENED_FIELDS.pack(len(self._idle), self.counts["open_failed"])
            self._link.send(frames.OPENED, 0, fields, self._first_failure.encode())
            self._link.flush(now_ns)

    def _open_connection(self, item: Item | None, now_ns: int) -> None:
        """Begin to connect, for a request or for later."""
        try:
            connection = Connection(self._settings, item)
        except OSError as error:
            self._on_connect_failed(item, now_ns, _failure_text(error))
            return
        self.connections[connection.fd] = connection
        self._poller.register(connection.fd, connection.wants)
        self._connecting += 1

    def _on_connect_failed(self, item: Item | None, now_ns: int, text: str) -> None:
        """A connection did not come about."""
        self.counts["open_failed"] += 1
        self._first_failure = self._first_failure or text
        if item is None:
            return
        self.paused_until_ns = now_ns + FAILURE_PAUSE_NS
        scheduled_ns = item.scheduled_ns if item.scheduled_ns >= 0 else now_ns
        begin = frames.BEGIN_FIELDS.pack(scheduled_ns, now_ns, 0, item.resent)
        self._link.send(frames.BEGIN, item.index, begin)
        end = frames.END_FIELDS.pack(now_ns, frames.ENDED_CONNECT)
        self._link.send(frames.END, item.index, end, text.encode())
        self._count_begun(item)
        self.counts["ended"] += 1
        self.schedule.ended(item, now_ns, whole=False)

    def _on_connecting(self, connection: Connection, now_ns: int) -> None:
        """A connection may stand now."""
        try:
            stands = connection.established(self._tls_context, self._settings.server_name)
        except OSError as error:
            self._connecting -= 1
            self._drop(connection)
            self._on_connect_failed(connection.waiting, now_ns, _failure_text(error))
        else:
            self._poller.modify(connection.fd, connection.wants)
            if stands:
                self._connecting -= 1
                self.counts["opened"] += 1
                self.counts["connect_ns"] += now_ns - connection.opened_ns
                if connection.waiting is None:
                    self._idle.append(connection)
                else:
                    self._send(connection, connection.waiting)
                    connection.waiting = None
        if self.opening:
            self._open_more(now_ns)

    def _dispatch(self, item: Item) -> None:
        """Send a request on an idle connection, else open one for it."""
        while self._idle and not item.resent:
            connection = self._idle.pop()
            if connection.is_alive():
                self._send(connection, item)
                return
            self._drop(connection)
        self._open_connection(item, monotonic_ns())

    def _keep_reserve(self, now_ns: int) -> None:
        """In the open loop, have a few connections ready so that no request waits for one."""
        if self._reuse and not self._settings.closed_loop and not self.schedule.no_more:
            while len(self._idle) + self._connecting < self._settings.reserve:
                self._open_connection(None, now_ns)
                if not self._connecting:
                    return

    def _send(self, connection: Connection, item: Item) -> None:
        """Write a request to a connection that stands."""
        self._count_begun(item)
        sent_ns = monotonic_ns()
        lost = ""
        try:
            connection.send(item.payload)
        except ConnectionLost as error:
            lost = str(error)
        reused = connection.served > 0
        connection.exchange = Exchange(
            item, self._link, self._clock, self._settings.max_head_bytes, reused=reused, sent_ns=sent_ns
        )
        connection.served += 1
        self.counts["reused"] += reused
        if lost:
            self._on_lost(connection, sent_ns, lost)
        elif connection.state == SENDING:
            self._poller.modify(connection.fd, connection.wants)

    def _continue_sending(self, connection: Connection, now_ns: int) -> None:
        """Write the rest of a long request."""
        try:
            connection.send_rest()
        except ConnectionLost as error:
            self._on_lost(connection, now_ns, str(error))
            return
        if connection.state == READING:
            self._poller.modify(connection.fd, connection.wants)

    def _on_lost(self, connection: Connection, now_ns: int, text: str) -> None:
        """The server closed the connection or it broke, while a request was under way."""
        exchange = connection.exchange
        if exchange is None:
            return
        if exchange.answer.close() and not text:
            self._finish(connection, now_ns, frames.ENDED_WHOLE)
        elif exchange.answered:
            self._finish(connection, now_ns, frames.ENDED_CUT, text or "the server closed the connection in the middle")
        elif exchange.reused and not exchange.item.resent:
            self._resend(connection, exchange.item)
        else:
            self._finish(connection, now_ns, frames.ENDED_LOST, text or "the server closed the connection unanswered")

    def _resend(self, connection: Connection, item: Item) -> None:
        """A used connection died before a byte of the answer: the request is sent once more, on a fresh one, and counted."""
        self._drop(connection)
        item.resent = True
        self.counts["resent"] += 1
        if self._settings.reuse < 0 and self.counts["resent"] >= RESENT_BEFORE_NO_REUSE:
            self._reuse = False
        self._dispatch(item)

    def _finish(self, connection: Connection, now_ns: int, code: int, text: str = "") -> None:
        """A request is over; its connection is kept if it can be, and its slot or conversation goes on."""
        exchange = connection.exchange
        if exchange is None:
            return
        self.quick.pop(connection.fd, None)
        self.counts["reads"] += len(exchange.unfollowed) // 4
        exchange.end(now_ns, code, text)
        self.counts["ended"] += 1
        connection.exchange = None
        whole = code == frames.ENDED_WHOLE
        if whole:
            self.pause.note_end(now_ns - exchange.sent_ns)
        if whole and exchange.answer.keep_alive and self._reuse and connection.state == READING:
            connection.state = IDLE
            self._idle.append(connection)
        else:
            self._drop(connection)
        self.schedule.ended(exchange.item, now_ns, whole=whole and exchange.answer.status == 200)

    def _drop(self, connection: Connection) -> None:
        """Close a connection."""
        self.quick.pop(connection.fd, None)
        if self.connections.pop(connection.fd, None) is not None:
            self._poller.unregister(connection.fd)
            connection.close()

    def _count_begun(self, item: Item) -> None:
        """Count a request once, however often it is sent."""
        if not item.begun:
            item.begun = True
            self.counts["begun"] += 1


def _failure_text(error: OSError) -> str:
    if error.errno == EMFILE:
        return "no more file descriptors: raise the limit of open files (ulimit -n)"
    return error.strerror or str(error)
