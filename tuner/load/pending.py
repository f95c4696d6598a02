"""A request under way, and the reads that its generator passes on."""

from __future__ import annotations

from array import array
from itertools import accumulate
from operator import sub
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from sessions.requests import ABSENT
from tuner.load.answers import StreamedAnswer
from tuner.load.hotpath import frames

if TYPE_CHECKING:
    from tuner.load.likeness import Likeness
    from tuner.load.plan import PlannedRequest
    from tuner.load.sse import Dechunker, EventSplitter

MAX_INT32 = (1 << 31) - 1
MAX_CHUNK_TOKENS = (1 << 16) - 1


class Reads:
    """A READS frame taken apart; `bounds` is where in the body each read ended."""

    __slots__ = ("body", "bounds", "empty_ns", "kernel_ns", "sizes", "user_ns")

    def __init__(self, payload: bytes) -> None:
        count, offset_ns = frames.READS_HEAD.unpack_from(payload)
        numbers = array("q")
        at = frames.READS_HEAD.size
        numbers.frombytes(payload[at : at + 32 * count])
        at += 32 * count
        stamps = numbers[: 2 * count]
        self.kernel_ns = [
            seconds * NS_PER_S + rest_ns - offset_ns for seconds, rest_ns in zip(stamps[::2], stamps[1::2], strict=True)
        ]
        self.user_ns = numbers[2 * count : 3 * count]
        self.empty_ns = numbers[3 * count :]
        self.sizes = array("i")
        self.sizes.frombytes(payload[at : at + 4 * count])
        self.bounds = list(accumulate(self.sizes))
        self.body = payload[at + 4 * count :]


class Pending:
    """A request under way, with what has come of its answer."""

    __slots__ = (
        "answer", "begun", "body", "chunk_ns", "chunk_tokens", "content_type", "dechunker", "doubtful", "http_status",
        "keep_text", "lag_first_us", "lag_max_us", "left_some", "likeness", "planned", "read_ns", "reused", "scheduled_ns",
        "sent_ns", "since_ns", "splitter", "user_clock",
    )  # fmt: skip

    def __init__(self, planned: PlannedRequest, *, keep_text: bool) -> None:
        self.planned = planned
        self.begun = False
        self.scheduled_ns = self.sent_ns = self.read_ns = 0
        self.reused = 0
        self.http_status = 0
        self.content_type = b""
        self.splitter: EventSplitter | None = None
        self.dechunker: Dechunker | None = None
        self.keep_text = keep_text
        self.answer = StreamedAnswer(keep_text=keep_text)
        self.body = b""
        self.chunk_ns: list[int] = []
        self.chunk_tokens: list[int] = []
        self.doubtful = 0
        self.lag_first_us = ABSENT
        self.lag_max_us = ABSENT
        self.user_clock = False
        self.since_ns = 0
        self.left_some = False
        self.likeness: Likeness | None = None

    def next_since_ns(self, empty_ns: int) -> int:
        """The latest time at which nothing of the next read had arrived; what the read before left may be as old as that."""
        return self.since_ns if self.left_some else max(empty_ns, self.read_ns)

    def note_read(self, since_ns: int, user_ns: int, size: int) -> None:
        """A read is dealt with."""
        self.since_ns, self.read_ns, self.left_some = since_ns, user_ns, size >= frames.FULL_READ_BYTES

    def place_each(self, reads: Reads, tokens: list[int]) -> bool:
        """Give the one event of each read its time, where that is simple: returns whether it was."""
        kernel_ns, user_ns = reads.kernel_ns, reads.user_ns
        if not self.chunk_ns or kernel_ns[0] < self.sent_ns:
            return False
        lags_ns = list(map(sub, user_ns, kernel_ns))
        if min(lags_ns) < 0 or max(tokens) > MAX_CHUNK_TOKENS:
            return False
        self.lag_max_us = max(self.lag_max_us, min(max(lags_ns) // 1000, MAX_INT32))
        self.chunk_ns += kernel_ns
        self.chunk_tokens += tokens
        before_ns = user_ns[-2] if len(user_ns) > 1 else self.read_ns
        self.note_read(max(reads.empty_ns[-1], before_ns), user_ns[-1], reads.sizes[-1])
        return True
