"""From raw reads to requests: parses answers, counts tokens, and places every token on the session's clock.

Runs away from the generator process, so that JSON costs no token its exact time.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

from sessions.clock import NS_PER_MS
from sessions.requests import ABSENT, ClockKind, RequestStatus, RequestTable
from tuner.load.answers import StreamedAnswer, error_text, one_line
from tuner.load.hotpath import frames
from tuner.load.live import LiveWindow
from tuner.load.sse import Dechunker, EventSplitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from sessions.clock import SessionClock
    from tuner.load.plan import PlannedRequest
    from tuner.load.sse import Event

TOGETHER_NS = 500_000
"""Events of one read that arrived within this time count as one chunk; beyond it nobody knows how they were spaced."""

_MAX_ERROR_BODY_BYTES = 64 * 1024
_MAX_INT32 = (1 << 31) - 1
_MAX_CHUNK_TOKENS = (1 << 16) - 1
_MAX_ERROR_TEXTS = 1000

_STATUS_OF_END = {
    frames.ENDED_CONNECT: RequestStatus.CONNECT,
    frames.ENDED_LOST: RequestStatus.CONNECT,
    frames.ENDED_CUT: RequestStatus.CUT,
    frames.ENDED_INVALID: RequestStatus.INVALID,
    frames.ENDED_TIMEOUT: RequestStatus.TIMEOUT,
    frames.ENDED_CANCELLED: RequestStatus.CANCELLED,
    frames.ENDED_LEVEL_OVER: RequestStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Finished:
    """A request that has ended, as far as the level's course depends on it.

    Attributes:
        planned: The request.
        status: How it ended.
        end_ns: When, on the monotonic clock.
        text: What the server answered, where the next turn needs it.
        osl_tokens: How long that is.
    """

    planned: PlannedRequest
    status: RequestStatus
    end_ns: int
    text: str
    osl_tokens: int


class _Pending:
    """A request under way, with what has come of its answer."""

    __slots__ = (
        "answer", "begun", "body", "chunk_ns", "chunk_tokens", "content_type", "dechunker", "doubtful", "http_status",
        "lag_first_us", "lag_max_us", "planned", "read_ns", "reused", "scheduled_ns", "sent_ns", "splitter", "user_clock",
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
        self.answer = StreamedAnswer(keep_text=keep_text)
        self.body = b""
        self.chunk_ns: list[int] = []
        self.chunk_tokens: list[int] = []
        self.doubtful = 0
        self.lag_first_us = ABSENT
        self.lag_max_us = ABSENT
        self.user_clock = False


class Collector:
    """Takes the generator's frames of one level and gives out finished requests.

    Attributes:
        live: The sliding window.
        resent: Requests sent a second time because a used connection had died.
        inexact_counts: Answers whose tokens per chunk had to be estimated.
    """

    def __init__(self, clock: SessionClock, *, keep_text: bool, end_mark_needed: bool) -> None:
        """Start empty.

        Args:
            clock: The session's clock.
            keep_text: Whether texts of answers that have a next turn are needed.
            end_mark_needed: Whether a stream without `[DONE]` and finish reason counts as cut off.
        """
        self.live = LiveWindow()
        self.resent = 0
        self.inexact_counts = 0
        self._clock = clock
        self._keep_text = keep_text
        self._end_mark_needed = end_mark_needed
        self._pending: dict[int, _Pending] = {}
        self._rows: list[dict[str, Any]] = []
        self._errors: dict[str, int] = {}
        self._handlers: dict[int, Callable[[_Pending, bytes], Finished | None]] = {
            frames.BEGIN: self._on_begin,
            frames.HEAD: self._on_head,
            frames.READS: self._on_reads,
            frames.END: self._on_end,
        }

    def expect(self, planned: PlannedRequest) -> None:
        """A request is on its way to the generator."""
        self._pending[planned.index] = _Pending(planned, keep_text=self._keep_text and planned.more)

    def forget(self, index: int) -> None:
        """A request will never be sent after all."""
        self._pending.pop(index, None)

    @property
    def in_flight(self) -> int:
        """Requests that have begun and not ended."""
        return sum(pending.begun for pending in self._pending.values())

    def take(self, kind: int, index: int, payload: bytes) -> Finished | None:
        """One frame about a request; returns the request if that was its end."""
        pending = self._pending.get(index)
        handler = self._handlers.get(kind)
        return None if pending is None or handler is None else handler(pending, payload)

    def drain_rows(self) -> RequestTable:
        """Requests that have ended since the last call."""
        rows, self._rows = self._rows, []
        texts, self._errors = tuple(self._errors), {}
        return RequestTable.from_rows(rows, errors=texts)

    def _on_begin(self, pending: _Pending, payload: bytes) -> None:
        pending.scheduled_ns, pending.sent_ns, pending.reused, resent = frames.BEGIN_FIELDS.unpack(payload)
        pending.read_ns = pending.sent_ns
        pending.begun = True
        self.resent += resent

    def _on_head(self, pending: _Pending, payload: bytes) -> None:
        pending.http_status, framing = frames.HEAD_FIELDS.unpack_from(payload)
        pending.content_type = payload[frames.HEAD_FIELDS.size :]
        if pending.http_status == 200 and b"json" not in pending.content_type:
            pending.splitter = EventSplitter(framing)
        elif framing == frames.FRAMING_CHUNKED:
            pending.dechunker = Dechunker()

    def _on_reads(self, pending: _Pending, payload: bytes) -> None:
        (count,) = frames.READS_COUNT.unpack_from(payload)
        times = array("q")
        sizes = array("i")
        at = frames.READS_COUNT.size
        times.frombytes(payload[at : at + 24 * count])
        at += 24 * count
        sizes.frombytes(payload[at : at + 4 * count])
        at += 4 * count
        first_new = len(pending.chunk_ns)
        splitter = pending.splitter
        if splitter is None:
            plain = payload[at:] if pending.dechunker is None else pending.dechunker.feed(payload[at:])
            pending.body = (pending.body + plain)[:_MAX_ERROR_BODY_BYTES]
            return
        for place, size in enumerate(sizes):
            events = splitter.feed(payload[at : at + size])
            at += size
            if events:
                self._place(pending, events, times[3 * place], times[3 * place + 1], times[3 * place + 2])
            pending.read_ns = times[3 * place + 1]
        self._note_live(pending, first_new)

    def _place(self, pending: _Pending, events: list[Event], kernel_ns: int, user_ns: int, empty_ns: int) -> None:
        """Give the events of one read their time."""
        take = pending.answer.take
        if len(events) == 1:
            tokens = take(events[0])
            counts = [tokens] if tokens else []
        else:
            counts = [tokens for event in events if (tokens := take(event))]
        if not counts:
            return
        if kernel_ns < 0:
            pending.user_clock = True
            kernel_ns = user_ns
        else:
            lag_us = (user_ns - kernel_ns) // 1000
            if lag_us > pending.lag_max_us:
                pending.lag_max_us = min(lag_us, _MAX_INT32)
            if not pending.chunk_ns:
                pending.lag_first_us = min(lag_us, _MAX_INT32)
        if len(counts) > 1:
            if kernel_ns - max(empty_ns, pending.read_ns) <= TOGETHER_NS:
                counts = [sum(counts)]
            else:
                pending.doubtful += len(counts) - (not pending.chunk_ns)
        for tokens in counts:
            pending.chunk_ns.append(kernel_ns)
            pending.chunk_tokens.append(min(_MAX_CHUNK_TOKENS, tokens))

    def _note_live(self, pending: _Pending, first_new: int) -> None:
        """Tell the sliding window about the chunks of one frame."""
        live = self.live
        chunk_ns, chunk_tokens = pending.chunk_ns[first_new:], pending.chunk_tokens[first_new:]
        if not chunk_ns:
            return
        live.note_chunks(chunk_ns, chunk_tokens)
        previous_ns = pending.chunk_ns[first_new - 1] if first_new else chunk_ns.pop(0)
        gaps: list[float] = []
        for arrived_ns, tokens in zip(chunk_ns, chunk_tokens if first_new else chunk_tokens[1:], strict=True):
            if tokens == 1:
                gaps.append((arrived_ns - previous_ns) / NS_PER_MS)
            elif tokens:
                gaps.extend([(arrived_ns - previous_ns) / NS_PER_MS / tokens] * tokens)
            previous_ns = arrived_ns
        if gaps:
            live.note_gaps(previous_ns, tuple(gaps))
        if not first_new:
            first_ns = pending.chunk_ns[0]
            live.note_first(first_ns, (first_ns - pending.scheduled_ns) / NS_PER_MS, pending.lag_first_us / 1000)

    def _on_end(self, pending: _Pending, payload: bytes) -> Finished:
        end_ns, code = frames.END_FIELDS.unpack_from(payload)
        text = payload[frames.END_FIELDS.size :].decode("utf-8", "replace")
        del self._pending[pending.planned.index]
        if pending.splitter is not None:
            first_new = len(pending.chunk_ns)
            last = pending.splitter.close()
            if last and not (code == frames.ENDED_CUT and not _is_whole(last[0])):
                self._place(pending, last, ABSENT, pending.read_ns, pending.read_ns)
                self._note_live(pending, first_new)
        status, error = self._judge(pending, code, text)
        osl_tokens = self._settle_tokens(pending)
        self._add_row(pending, status, error, end_ns, osl_tokens)
        answer_text = "".join(pending.answer.text)
        return Finished(pending.planned, status, end_ns, answer_text, osl_tokens)

    def _judge(self, pending: _Pending, code: int, text: str) -> tuple[RequestStatus, str]:
        """How a request ended, and why in one line ("" when well)."""
        answer = pending.answer
        if code != frames.ENDED_WHOLE:
            return _STATUS_OF_END.get(code, RequestStatus.INVALID), one_line(text)
        if pending.http_status != 200:
            said = "redirects are not followed" if 300 <= pending.http_status < 400 else error_text(pending.body)
            return RequestStatus.HTTP, f"HTTP {pending.http_status}: {said}".removesuffix(": ")
        if b"json" in pending.content_type:
            return RequestStatus.INVALID, f"an answer that is no event stream: {error_text(pending.body)}"
        fault = answer.fault or (pending.splitter.fault if pending.splitter is not None else "")
        if fault:
            return RequestStatus.INVALID, fault
        if not pending.chunk_ns:
            return RequestStatus.INVALID, "a stream without a token"
        if self._end_mark_needed and not answer.done and not answer.finish_reason:
            return RequestStatus.CUT, "the stream ended without [DONE] and without a finish reason"
        return RequestStatus.OK, ""

    def _settle_tokens(self, pending: _Pending) -> int:
        """Output tokens of an answer, and tokens per chunk that agree with it: usage is right, chunks are a guess."""
        answer = pending.answer
        total = answer.completion_tokens
        seen = sum(pending.chunk_tokens)
        if total < 0 or total == seen:
            return seen
        self.inexact_counts += 1
        chunks = len(pending.chunk_tokens)
        if total > seen and chunks and not answer.counted:
            pending.chunk_tokens = [
                min((place + 1) * total // chunks - place * total // chunks, _MAX_CHUNK_TOKENS)
                for place in range(chunks)
            ]
            self.live.output_tokens_total += total - seen
        return total

    def _add_row(self, pending: _Pending, status: RequestStatus, error: str, end_ns: int, osl_tokens: int) -> None:
        planned, answer, clock, sent_ns = pending.planned, pending.answer, self._clock, pending.sent_ns
        chunk_ns = pending.chunk_ns
        first_ns = chunk_ns[0] if chunk_ns else ABSENT
        last_ns = chunk_ns[-1] if chunk_ns else ABSENT
        isl_tokens = answer.prompt_tokens if answer.prompt_tokens >= 0 else planned.isl_tokens
        self._rows.append(
            {
                "index": planned.index,
                "session": planned.session,
                "turn": planned.turn,
                "scheduled_ns": clock.from_monotonic(pending.scheduled_ns),
                "sent_ns": clock.from_monotonic(sent_ns),
                "first_ns": clock.from_monotonic(first_ns) if chunk_ns else ABSENT,
                "last_ns": clock.from_monotonic(last_ns) if chunk_ns else ABSENT,
                "end_ns": clock.from_monotonic(end_ns),
                "isl_tokens": isl_tokens,
                "osl_tokens": osl_tokens,
                "cached_tokens": answer.cached_tokens,
                "status": status,
                "http_status": pending.http_status,
                "clock": ClockKind.USER if pending.user_clock or not chunk_ns else ClockKind.KERNEL,
                "lag_first_us": pending.lag_first_us,
                "lag_max_us": pending.lag_max_us,
                "doubtful_gaps": pending.doubtful,
                "reused": pending.reused,
                "error": self._error_place(error),
                "chunk_us": [min((arrived_ns - sent_ns) // 1000, _MAX_INT32) for arrived_ns in chunk_ns],
                "chunk_tokens": pending.chunk_tokens,
            }
        )
        later = osl_tokens - (pending.chunk_tokens[0] if chunk_ns else 0)
        self.live.note_end(
            end_ns,
            good=status == RequestStatus.OK,
            failed=status not in (RequestStatus.OK, RequestStatus.CANCELLED),
            isl_tokens=isl_tokens,
            tpot_ms=(last_ns - first_ns) / NS_PER_MS / later if later > 0 else nan,
            e2e_ms=(last_ns - pending.scheduled_ns) / NS_PER_MS,
        )

    def _error_place(self, error: str) -> int:
        if not error:
            return ABSENT
        if error not in self._errors and len(self._errors) >= _MAX_ERROR_TEXTS:
            error = "more different errors than are kept"
        return self._errors.setdefault(error, len(self._errors))


def _is_whole(event: Event) -> bool:
    data = event[1].strip()
    return data == b"[DONE]" or (data.startswith(b"{") and data.endswith(b"}"))
