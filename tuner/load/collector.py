"""From raw reads to requests: parses answers, counts tokens, and places every token on the session's clock.

Runs away from the generator process, so that JSON costs no token its exact time.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from typing import TYPE_CHECKING, Any

from sessions.clock import NS_PER_MS
from sessions.requests import ABSENT, ClockKind, RequestStatus, RequestTable
from tuner.load.answers import error_text, one_line
from tuner.load.hotpath import frames
from tuner.load.likeness import Likeness, Tails, chunk_end
from tuner.load.live import LiveWindow
from tuner.load.pending import MAX_CHUNK_TOKENS, MAX_INT32, Pending, Reads
from tuner.load.sse import Dechunker, EventSplitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from sessions.clock import SessionClock
    from tuner.load.plan import PlannedRequest
    from tuner.load.sse import Event

_MAX_ERROR_BODY_BYTES = 64 * 1024
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


class Collector:
    """Takes the generator's frames of one level and gives out finished requests.

    Attributes:
        live: The sliding window.
        resent: Requests sent a second time because a used connection had died.
        inexact_counts: Answers whose tokens per chunk had to be estimated.
        uncounted: Answers that ended well and told no usage: an event with text counts as one token.
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
        self.uncounted = 0
        self._clock = clock
        self._keep_text = keep_text
        self._end_mark_needed = end_mark_needed
        self._pending: dict[int, Pending] = {}
        self._rows: list[dict[str, Any]] = []
        self._errors: dict[str, int] = {}
        self._tails = Tails()
        self._handlers: dict[int, Callable[[Pending, bytes], Finished | None]] = {
            frames.BEGIN: self._on_begin,
            frames.HEAD: self._on_head,
            frames.READS: self._on_reads,
            frames.END: self._on_end,
        }

    def expect(self, planned: PlannedRequest) -> None:
        """A request is on its way to the generator."""
        self._pending[planned.index] = Pending(planned, keep_text=self._keep_text and planned.more)

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

    def _on_begin(self, pending: Pending, payload: bytes) -> None:
        pending.scheduled_ns, pending.sent_ns, pending.reused, resent = frames.BEGIN_FIELDS.unpack(payload)
        pending.read_ns = pending.sent_ns
        pending.begun = True
        self.resent += resent

    def _on_head(self, pending: Pending, payload: bytes) -> None:
        pending.http_status, framing = frames.HEAD_FIELDS.unpack_from(payload)
        pending.content_type = payload[frames.HEAD_FIELDS.size :]
        if pending.http_status == 200 and b"json" not in pending.content_type:
            pending.splitter = EventSplitter(framing)
            if not pending.keep_text:
                pending.likeness = Likeness(self._tails)
        elif framing == frames.FRAMING_CHUNKED:
            pending.dechunker = Dechunker()

    def _on_reads(self, pending: Pending, payload: bytes) -> None:
        reads = Reads(payload)
        body = reads.body
        splitter = pending.splitter
        if splitter is None:
            plain = body if pending.dechunker is None else pending.dechunker.feed(body)
            pending.body = (pending.body + plain)[:_MAX_ERROR_BODY_BYTES]
            return
        first_new = len(pending.chunk_ns)
        tokens, ends = self._read_events(pending, splitter, body, reads.bounds)
        if not (ends == reads.bounds and pending.place_each(reads, tokens)):
            self._place_all(pending, reads, tokens, ends)
        self._note_live(pending, first_new)

    def _read_events(
        self, pending: Pending, splitter: EventSplitter, body: bytes, bounds: list[int]
    ) -> tuple[list[int], list[int]]:
        """Tokens of every event that brought some, and where in the body it ended (or the piece in which it did)."""
        likeness, answer = pending.likeness, pending.answer
        tokens: list[int] = []
        ends: list[int] = []
        at, last = 0, len(body)
        while at < last:
            stop = bounds[bisect_right(bounds, at)]
            if likeness is not None and splitter.at_chunk:
                at = likeness.take(answer, body, at, tokens, ends)
                if at == last:
                    break
                stop = bounds[bisect_right(bounds, at)]
                if likeness.wants_lesson:
                    # One chunk: what it teaches may be true of the next.
                    stop = min(stop, chunk_end(body, at))
            for event in splitter.feed(body[at:stop]):
                count = answer.take(event)
                if count:
                    # The first one is often the only one, or of its own kind.
                    more = not answer.finish_reason and (pending.chunk_ns or tokens)
                    if likeness is not None and likeness.wants_lesson and more:
                        likeness.learn(event)
                    tokens.append(count)
                    ends.append(stop)
            at = stop
        return tokens, ends

    def _place_all(self, pending: Pending, reads: Reads, tokens: list[int], ends: list[int]) -> None:
        """Give the tokens of a frame their times, read by read."""
        at = 0
        for place, (kernel_ns, user_ns) in enumerate(zip(reads.kernel_ns, reads.user_ns, strict=True)):
            since_ns = pending.next_since_ns(reads.empty_ns[place])
            stop = bisect_right(ends, reads.bounds[place], at)
            if stop > at:
                self._place(pending, tokens[at:stop], kernel_ns, user_ns, since_ns)
            at = stop
            pending.note_read(since_ns, user_ns, reads.sizes[place])

    def _place(self, pending: Pending, counts: list[int], kernel_ns: int, user_ns: int, since_ns: int) -> None:
        """Give the tokens of one read, event by event, their time."""
        if not pending.sent_ns <= kernel_ns <= user_ns:
            # Over TLS and elsewhere there is none; after the wall clock was set it cannot be true.
            pending.user_clock = True
            kernel_ns = user_ns
        else:
            lag_us = (user_ns - kernel_ns) // 1000
            if lag_us > pending.lag_max_us:
                pending.lag_max_us = min(lag_us, MAX_INT32)
            if not pending.chunk_ns:
                pending.lag_first_us = min(lag_us, MAX_INT32)
        if len(counts) > 1:
            if kernel_ns - since_ns <= frames.TOGETHER_NS:
                counts = [sum(counts)]
            else:
                pending.doubtful += len(counts) - (not pending.chunk_ns)
        for tokens in counts:
            pending.chunk_ns.append(kernel_ns)
            pending.chunk_tokens.append(min(MAX_CHUNK_TOKENS, tokens))

    def _note_live(self, pending: Pending, first_new: int) -> None:
        """Tell the sliding window about the chunks of one frame."""
        live = self.live
        chunk_ns, chunk_tokens = pending.chunk_ns[first_new:], pending.chunk_tokens[first_new:]
        if not chunk_ns:
            return
        live.note_chunks(chunk_ns, chunk_tokens)
        if not first_new:
            live.note_first(chunk_ns[0], (chunk_ns[0] - pending.scheduled_ns) / NS_PER_MS, pending.lag_first_us / 1000)
        arrivals_ns = pending.chunk_ns[max(first_new - 1, 0) :]
        gaps_ms = [(end_ns - start_ns) / NS_PER_MS for start_ns, end_ns in pairwise(arrivals_ns)]
        if gaps_ms and max(chunk_tokens) > 1:
            spread = zip(gaps_ms, chunk_tokens[-len(gaps_ms) :], strict=True)
            gaps_ms = [gap_ms / tokens for gap_ms, tokens in spread for _ in range(tokens)]
        if gaps_ms:
            live.note_gaps(chunk_ns[-1], gaps_ms)

    def _on_end(self, pending: Pending, payload: bytes) -> Finished:
        end_ns, code = frames.END_FIELDS.unpack_from(payload)
        text = payload[frames.END_FIELDS.size :].decode("utf-8", "replace")
        del self._pending[pending.planned.index]
        if pending.splitter is not None:
            first_new = len(pending.chunk_ns)
            last = pending.splitter.close()
            if last and not (code == frames.ENDED_CUT and not _is_whole(last[0])):
                tokens = pending.answer.take(last[0])
                if tokens:
                    self._place(pending, [tokens], ABSENT, pending.read_ns, pending.read_ns)
                    self._note_live(pending, first_new)
        status, error = self._judge(pending, code, text)
        self.uncounted += status == RequestStatus.OK and pending.answer.completion_tokens < 0
        osl_tokens = self._settle_tokens(pending)
        self._add_row(pending, status, error, end_ns, osl_tokens)
        answer_text = "".join(pending.answer.text)
        return Finished(pending.planned, status, end_ns, answer_text, osl_tokens)

    def _judge(self, pending: Pending, code: int, text: str) -> tuple[RequestStatus, str]:
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

    def _settle_tokens(self, pending: Pending) -> int:
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
                min((place + 1) * total // chunks - place * total // chunks, MAX_CHUNK_TOKENS)
                for place in range(chunks)
            ]
            self.live.output_tokens_total += total - seen
        return total

    def _add_row(self, pending: Pending, status: RequestStatus, error: str, end_ns: int, osl_tokens: int) -> None:
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
                "chunk_us": [min((arrived_ns - sent_ns) // 1000, MAX_INT32) for arrived_ns in chunk_ns],
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
