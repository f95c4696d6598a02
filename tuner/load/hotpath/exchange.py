"""One request as planned, and one attempt to have it answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.load.hotpath.answer import Answer, BadAnswer
from tuner.load.hotpath.frames import BEGIN, BEGIN_FIELDS, END, END_FIELDS, HEAD, HEAD_FIELDS, ITEM_FIELDS

if TYPE_CHECKING:
    from tuner.load.hotpath.link import Link

FLUSH_BYTES = 32 * 1024
"""Reads of a stream are passed on when they hold this much; bounds the memory of an endless answer."""

FLUSH_NS = 400_000_000
"""... or when the oldest has waited this long; bounds how old the live view is."""


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
    """An item on a connection: from its first byte out to the last byte in."""

    __slots__ = (
        "answer", "answered", "body_started", "flushed_ns", "head_sent", "item", "last_read_ns", "link", "parts", "pending_bytes",
        "reused", "sent_ns", "times",
    )  # fmt: skip

    def __init__(self, item: Item, link: Link, max_head_bytes: int, *, reused: bool, sent_ns: int) -> None:
        self.item = item
        self.link = link
        self.answer = Answer(max_head_bytes)
        self.reused = reused
        self.sent_ns = sent_ns
        self.last_read_ns = sent_ns
        self.flushed_ns = sent_ns
        self.answered = False
        self.body_started = False
        self.head_sent = False
        self.times: list[int] = []
        self.parts: list[bytes] = []
        self.pending_bytes = 0
        scheduled_ns = item.scheduled_ns if item.scheduled_ns >= 0 else sent_ns
        link.send(BEGIN, item.index, BEGIN_FIELDS.pack(scheduled_ns, sent_ns, reused, item.resent))

    def take(self, data: bytes, kernel_ns: int, user_ns: int, empty_ns: int) -> bool:
        """Account for one read; returns whether the answer is whole.

        Args:
            data: What was read.
            kernel_ns: When its last segment arrived, or -1.
            user_ns: When it was read.
            empty_ns: The latest time at which nothing of it had arrived yet.

        Raises:
            BadAnswer: If it breaks the protocol.
        """
        answer = self.answer
        self.answered = True
        try:
            body = answer.feed(data)
        except BadAnswer:
            # What came before the fault may hold tokens: the fault is the request's end, not the loss of them.
            if self.body_started:
                self.times += (kernel_ns, user_ns, empty_ns)
                self.parts.append(data)
            raise
        self.last_read_ns = user_ns
        if body:
            self.body_started = True
            self.times += (kernel_ns, user_ns, empty_ns)
            self.parts.append(body)
            self.pending_bytes += len(body)
            if self.pending_bytes > FLUSH_BYTES or user_ns - self.flushed_ns > FLUSH_NS:
                self.flush(user_ns)
        return answer.finished

    def flush(self, now_ns: int) -> None:
        """Pass on what has been read so far."""
        self.flushed_ns = now_ns
        answer = self.answer
        if answer.status and not self.head_sent:
            self.head_sent = True
            fields = HEAD_FIELDS.pack(answer.status, answer.framing)
            self.link.send(HEAD, self.item.index, fields, answer.content_type)
        if self.parts:
            self.link.send_reads(self.item.index, self.times, self.parts)
            self.times, self.parts, self.pending_bytes = [], [], 0

    def end(self, now_ns: int, code: int, text: str = "") -> None:
        """Report the end of the request."""
        self.flush(now_ns)
        self.link.send(END, self.item.index, END_FIELDS.pack(now_ns, code), text.encode()[:400])
