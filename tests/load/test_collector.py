"""From reads to requests: times, tokens, doubt."""

from __future__ import annotations

from array import array

import orjson
import pytest

from sessions.clock import SessionClock
from sessions.requests import ClockKind, RequestStatus, RequestTable
from tuner.load.collector import Collector, Finished
from tuner.load.hotpath import frames
from tuner.load.plan import PlannedRequest

MS = 1_000_000
SENT_NS = 1_000 * MS
OFFSET_NS = 1_700_000_000_000 * MS
CLOCK = SessionClock(0, 0)
Read = tuple[int, int, int, bytes]
"""Kernel time, time of reading, time at which nothing had come yet, bytes."""


def token(text: str = "a", finish: str | None = None, total: int | None = None) -> bytes:
    message: dict[str, object] = {"choices": [{"text": text, "finish_reason": finish}]}
    if total is not None:
        message["usage"] = {"prompt_tokens": 3, "completion_tokens": total}
    return b"data: " + orjson.dumps(message) + b"\n\n"


def usage(total: int) -> bytes:
    return (
        b"data: " + orjson.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": total}}) + b"\n\n"
    )


DONE = b"data: [DONE]\n\n"


def collect(*reads: Read, code: int = frames.ENDED_WHOLE, text: bytes = b"", resent: bool = False) -> RequestTable:
    collector = Collector(CLOCK, keep_text=False, end_mark_needed=True)
    collector.expect(PlannedRequest(0, -1, 0, 0, -1, 0, -1, 8, 4, b"x"))
    for _ in range(1 + resent):
        collector.take(frames.BEGIN, 0, frames.BEGIN_FIELDS.pack(SENT_NS, SENT_NS, 0, resent))
    collector.take(frames.HEAD, 0, frames.HEAD_FIELDS.pack(200, frames.FRAMING_CLOSE) + b"text/event-stream")
    for kernel_ns, user_ns, empty_ns, data in reads:
        stamp = divmod(kernel_ns + OFFSET_NS, 1000 * MS) if kernel_ns >= 0 else (0, 0)
        times = array("q", [*stamp, user_ns, empty_ns]).tobytes()
        sizes = array("i", [len(data)]).tobytes()
        collector.take(frames.READS, 0, frames.READS_HEAD.pack(1, OFFSET_NS) + times + sizes + data)
    finished = collector.take(frames.END, 0, frames.END_FIELDS.pack(SENT_NS + 900 * MS, code) + text)
    assert isinstance(finished, Finished)
    return collector.drain_rows()


def read_at(ms: float, data: bytes, *, late_ms: float = 0.1, empty_for_ms: float = 0.05) -> Read:
    arrived_ns = SENT_NS + int(ms * MS)
    return arrived_ns, arrived_ns + int(late_ms * MS), arrived_ns - int(empty_for_ms * MS), data


def test_each_event_has_the_time_of_its_read() -> None:
    table = collect(read_at(100, token()), read_at(120, token()), read_at(150, token(finish="stop") + DONE))
    assert table.status[0] == RequestStatus.OK
    assert table.chunk_us.tolist() == [100_000, 120_000, 150_000]
    assert table.chunk_tokens.tolist() == [1, 1, 1]
    assert table.first_ns[0] == SENT_NS + 100 * MS
    assert table.last_ns[0] == SENT_NS + 150 * MS
    assert table.doubtful_gaps[0] == 0


def test_an_event_in_pieces_has_the_time_of_its_last_piece() -> None:
    event = token(finish="stop")
    table = collect(read_at(100, event[:10]), read_at(130, event[10:] + DONE))
    assert table.chunk_us.tolist() == [130_000]


def test_events_that_arrived_together_are_one_chunk_of_several_tokens() -> None:
    table = collect(read_at(100, token() * 3), read_at(120, token(finish="stop") + DONE))
    assert table.chunk_us.tolist() == [100_000, 120_000]
    assert table.chunk_tokens.tolist() == [3, 1]
    assert table.osl_tokens[0] == 4
    assert table.doubtful_gaps[0] == 0


def test_events_that_waited_for_us_keep_their_tokens_and_are_doubtful() -> None:
    late = read_at(160, token() * 2, empty_for_ms=45)
    table = collect(read_at(100, token()), late, read_at(180, token(finish="stop") + DONE))
    assert table.chunk_us.tolist() == [100_000, 160_000, 160_000, 180_000]
    assert table.chunk_tokens.tolist() == [1, 1, 1, 1]
    assert table.doubtful_gaps[0] == 2


def test_what_was_read_before_bounds_the_doubt() -> None:
    table = collect(read_at(100, token()), read_at(100.3, token(finish="stop") * 2 + DONE, empty_for_ms=50))
    assert table.chunk_tokens.tolist() == [1, 2]


def test_without_a_kernel_time_the_time_of_reading_counts_and_is_said() -> None:
    _, user_ns, empty_ns, data = read_at(100, token(finish="stop") + DONE, late_ms=2)
    table = collect((-1, user_ns, empty_ns, data))
    assert table.clock[0] == ClockKind.USER
    assert table.chunk_us.tolist() == [102_000]
    assert table.lag_first_us[0] == -1


def test_our_lag_is_kept() -> None:
    table = collect(read_at(100, token(), late_ms=0.4), read_at(120, token(finish="stop") + DONE, late_ms=1.5))
    assert table.clock[0] == ClockKind.KERNEL
    assert table.lag_first_us[0] == 400
    assert table.lag_max_us[0] == 1500


def test_usage_on_every_chunk_gives_its_tokens() -> None:
    table = collect(read_at(100, token(total=2)), read_at(120, token("b", "stop", total=5) + usage(5) + DONE))
    assert table.chunk_tokens.tolist() == [2, 3]
    assert table.osl_tokens[0] == 5
    assert table.isl_tokens[0] == 3


@pytest.mark.parametrize(("total", "tokens"), [(3, [1, 1, 1]), (7, [2, 2, 3]), (2, [1, 1, 1])])
def test_final_usage_wins_and_is_spread_over_the_chunks(total: int, tokens: list[int]) -> None:
    last = token(finish="stop") + usage(total) + DONE
    table = collect(read_at(100, token()), read_at(120, token()), read_at(140, last))
    assert table.osl_tokens[0] == total
    assert table.chunk_tokens.tolist() == tokens


def test_a_last_event_without_its_blank_line_still_counts() -> None:
    table = collect(read_at(100, token()), read_at(120, token("b", "stop").rstrip(b"\n")))
    assert table.osl_tokens[0] == 2
    assert table.status[0] == RequestStatus.OK


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (frames.ENDED_CONNECT, RequestStatus.CONNECT),
        (frames.ENDED_LOST, RequestStatus.CONNECT),
        (frames.ENDED_CUT, RequestStatus.CUT),
        (frames.ENDED_TIMEOUT, RequestStatus.TIMEOUT),
        (frames.ENDED_CANCELLED, RequestStatus.CANCELLED),
    ],
)
def test_a_request_that_broke_off_keeps_its_tokens_and_its_reason(code: int, status: RequestStatus) -> None:
    table = collect(read_at(100, token() + token()[:9]), code=code, text=b"because")
    assert table.status[0] == status
    assert table.osl_tokens[0] == 1
    assert table.errors == ("because",)


def test_frames_of_unknown_requests_are_passed_over() -> None:
    collector = Collector(CLOCK, keep_text=False, end_mark_needed=True)
    assert collector.take(frames.END, 99, frames.END_FIELDS.pack(0, 0)) is None
    assert len(collector.drain_rows()) == 0
