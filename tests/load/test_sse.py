"""Server-sent events: whatever the pieces a body comes in, the same events come out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.load.hotpath.frames import FRAMING_CHUNKED, FRAMING_CLOSE
from tuner.load.sse import MAX_EVENT_BYTES, Event, EventSplitter


def split(body: bytes, framing: int = FRAMING_CLOSE, cuts: tuple[int, ...] = ()) -> list[Event]:
    splitter = EventSplitter(framing)
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    events = [event for start, end in pairwise(edges) for event in splitter.feed(body[start:end])]
    return events + splitter.close()


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
        (b"data:a\n\n", [("", b"a")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", b"a"), ("", b"b")]),
        (b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")]),
        (b": comment\n\ndata: a\n\n", [("", b"a")]),
        (b"event: ping\n\ndata: a\n\n", [("", b"a")]),
        (b"event: trtllm.perf_metrics\ndata: {}\n\n", [("trtllm.perf_metrics", b"{}")]),
        (b"id: 1\nretry: 5\ndata: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
        (b"\n\n\n\ndata: a\n\n\n", [("", b"a")]),
        (b"data: whole\n\ndata: cut o", [("", b"whole"), ("", b"cut o")]),
        (b"", []),
    ],
)
def test_events_of_a_body(body: bytes, events: list[Event]) -> None:
    assert split(body) == events


TEXTS = st.binary(max_size=30).map(
    lambda data: data.replace(b"\r", b"").replace(b"\n", b"").replace(b"\xef\xbb\xbf", b"")
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
CUTS = st.lists(st.integers(0, 4000), max_size=12).map(tuple)


@given(st.lists(TEXTS, min_size=1, max_size=8), ENDS, CUTS)
def test_pieces_do_not_matter(texts: list[bytes], end: bytes, cuts: tuple[int, ...]) -> None:
    body = b"".join(b"data: " + text + end + end for text in texts)
    assert split(body, cuts=cuts) == [("", text) for text in texts]


@given(st.lists(TEXTS, min_size=1, max_size=8), CUTS, CUTS)
def test_chunk_borders_do_not_matter(texts: list[bytes], borders: tuple[int, ...], cuts: tuple[int, ...]) -> None:
    body = b"".join(b"data: " + text + b"\n\n" for text in texts)
    edges = [0, *sorted(border % (len(body) + 1) for border in borders), len(body)]
    framed = chunked(*(body[start:end] for start, end in pairwise(edges)))
    assert split(framed, FRAMING_CHUNKED, cuts) == [("", text) for text in texts]


@given(st.lists(TEXTS, min_size=1, max_size=8), CUTS)
def test_one_event_a_chunk_is_read_alike_whole_and_in_pieces(texts: list[bytes], cuts: tuple[int, ...]) -> None:
    parts = [b"data: " + text + b"\n\n" for text in texts]
    splitter = EventSplitter(FRAMING_CHUNKED)
    one_by_one = [event for part in parts for event in splitter.feed(b"%x\r\n%b\r\n" % (len(part), part))]
    assert one_by_one == split(chunked(*parts), FRAMING_CHUNKED, cuts) == [("", text) for text in texts]


@given(st.binary(max_size=300), CUTS, st.sampled_from([FRAMING_CHUNKED, FRAMING_CLOSE]))
def test_garbage_raises_nothing_and_ends(body: bytes, cuts: tuple[int, ...], framing: int) -> None:
    for name, data in split(body, framing, cuts):
        assert isinstance(name, str)
        assert isinstance(data, bytes)


def test_events_before_broken_framing_are_kept_and_the_fault_is_named() -> None:
    splitter = EventSplitter(FRAMING_CHUNKED)
    events = splitter.feed(b"9\r\ndata: a\n\n\r\nnonsense\r\ndata: b\n\n")
    assert events == [("", b"a")]
    assert "chunk header" in splitter.fault


def test_a_large_event_is_taken_whole() -> None:
    data = b"x" * 80 * 1024
    assert split(chunked(b"data: " + data + b"\n\n"), FRAMING_CHUNKED, (1, 5000, 70000)) == [("", data)]


def test_an_event_without_end_is_refused_before_it_fills_the_memory() -> None:
    splitter = EventSplitter(FRAMING_CLOSE)
    piece = b"x" * (1 << 20)
    for _ in range(MAX_EVENT_BYTES // len(piece) + 1):
        assert splitter.feed(piece) == []
    assert "longer than" in splitter.fault
    assert not splitter.partial
