"""One request as planned, and one attempt to have it answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.load.hotpath.answer import Answer, BadAnswer
from tuner.load.hotpath.frames import BEGIN, BEGIN_FIELDS, END, END_FIELDS, HEAD, HEAD_FIELDS, ITEM_FIELDS

if TYPE_CHECKING:
    from tuner.load.hotpath.link import Link
    from tuner.load.hotpath.stamps import ClockOffset

FLUSH_BYTES = 32 * 1024
"""Reads of a stream are passed on when they hold this much; bounds the memory of an endless answer."""

FLUSH_NS = 350_000_000
"""... or at the first tick after so long; bounds how old the live view is. At ticks, so that one message brings many streams."""


class Item:
    """A planned request: bytes to send, and when."""

    __slots__ = (
        "begun", "cancel_after_ns", "due_ns", "index", "more", "payload", "resent", "scheduled_ns", "session", "think_ns", "turn",
    )  # fmt: skip

    def __init__(self, index: int, frame: bytes) -> None:
        fields = ITEM_FIELDS.unpack_from(frame)
        self.index = index
        self.due_ns: int = fields[0]
        self.think_ns: int = fields[1]
        self.cancel_after_ns: int = fields[2]
        self.session: int = fields[3]
        self.turn: int = fields[4]
        self.more = bool(fields[5])
        self.payload = frame[ITEM_FIELDS.size :]
        self.scheduled_ns = -1
        self.begun = False
        self.resent = False


class Exchange:
    """An item on a connection: from its first byte out to the last byte in.

    Attributes:
        unfollowed: Reads of the quick way (see `fit_for_quick_way`) whose framing has not been followed yet: for each the
            bytes, the kernel's stamp, when it was read, and when the poller last found nothing to read, one after the other.
    """

    __slots__ = (
        "_clock", "_link", "_reads", "answer", "answered", "body_started", "flushed_ns", "head_sent", "item", "last_ns",
        "pending_bytes", "reused", "sent_ns", "unfollowed",
    )  # fmt: skip

    def __init__(
        self, item: Item, link: Link, clock: ClockOffset, max_head_bytes: int, *, reused: bool, sent_ns: int
    ) -> None:
        self.item = item
        self.answer = Answer(max_head_bytes)
        self.reused = reused
        self.sent_ns = sent_ns
        self.flushed_ns = sent_ns
        self.answered = False
        self.body_started = False
        self.head_sent = False
        self.pending_bytes = 0
        self.unfollowed: list[Any] = []
        self.last_ns = sent_ns
        self._clock = clock
        self._link = link
        self._reads: list[Any] = []
        scheduled_ns = item.scheduled_ns if item.scheduled_ns >= 0 else sent_ns
        link.send(BEGIN, item.index, BEGIN_FIELDS.pack(scheduled_ns, sent_ns, reused, item.resent))

    @property
    def last_read_ns(self) -> int:
        """When it was last read from; when it was sent before that."""
        return int(self.unfollowed[-2]) if self.unfollowed else self.last_ns

    @property
    def fit_for_quick_way(self) -> bool:
        """Whether the next read may be kept as it is if it ends as a chunk with events does: that cannot be the answer's end."""
        return self.body_started and self.answer.between_chunks

    def take(self, data: bytes, stamp: bytes, user_ns: int, empty_ns: int) -> bool:
        """Account for one read; returns whether the answer is whole.

        Args:
            data: What was read.
            stamp: When its last segment arrived, as the kernel gives it (16 bytes; zeros where it does not).
            user_ns: When it was read.
            empty_ns: When the poller last found nothing to read.

        Raises:
            BadAnswer: If it breaks the protocol.
        """
        answer = self.answer
        self.answered = True
        try:
            self.settle()
            body = answer.feed(data)
        except BadAnswer:
            # What came before the fault may hold tokens: the fault is the request's end, not the loss of them.
            if self.body_started:
                self._reads += (data, stamp, user_ns, empty_ns)
            raise
        self.last_ns = user_ns
        if body:
            self.body_started = True
            self._reads += (body, stamp, user_ns, empty_ns)
            self.pending_bytes += len(body)
            if self.pending_bytes > FLUSH_BYTES:
                self.flush(user_ns)
        return answer.finished

    def settle(self) -> int:
        """Follow the framing of the quick way's reads; returns how many chunks they held.

        Raises:
            BadAnswer: If they break the protocol.
        """
        reads = self.unfollowed
        if not reads:
            return 0
        self.unfollowed = []
        self.last_ns = reads[-2]
        self._reads += reads
        data = b"".join(reads[::4])
        self.pending_bytes += len(data)
        self.answer.feed(data)
        return self.answer.chunks

    def flush(self, now_ns: int) -> None:
        """Pass on what has been read so far."""
        self.flushed_ns = now_ns
        answer = self.answer
        if answer.status and not self.head_sent:
            self.head_sent = True
            fields = HEAD_FIELDS.pack(answer.status, answer.framing)
            self._link.send(HEAD, self.item.index, fields, answer.content_type)
        if self._reads:
            self._link.send_reads(self.item.index, self._clock.offset_ns, self._reads)
            self._reads, self.pending_bytes = [], 0

    def end(self, now_ns: int, code: int, text: str = "") -> None:
        """Report the end of the request."""
        try:
            self.settle()
        except BadAnswer as error:
            text = text or str(error)
        self.flush(now_ns)
        self._link.send(END, self.item.index, END_FIELDS.pack(now_ns, code), text.encode()[:400])
        self._link.urgent = self._link.urgent or self.item.more
