"""The end of an HTTP answer is found exactly, whatever the pieces it comes in."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.load.hotpath.answer import Answer, BadAnswer, chunk_size

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
MAX_HEAD_BYTES = 4096


def feed(data: bytes, cuts: tuple[int, ...] = ()) -> Answer:
    answer = Answer(MAX_HEAD_BYTES)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        if start != end:
            answer.feed(data[start:end])
    return answer


CUTS = st.lists(st.integers(0, 2000), max_size=10).map(tuple)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), CUTS)
def test_a_chunked_answer_ends_with_its_last_chunk_only(chunks: list[bytes], cuts: tuple[int, ...]) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    data = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body
    assert feed(data, cuts).finished
    assert not feed(data[:-1], cuts).finished


@pytest.mark.parametrize(
    "body",
    [
        b"5;name=value\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nTrailer: yes\r\nOther: x\r\n\r\n",
        b"0005\r\nhello\r\n000\r\n\r\n",
    ],
)
def test_extensions_trailers_and_leading_zeros_are_understood(body: bytes) -> None:
    answer = feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body, cuts=(70, 75, 80, 85, 90))
    assert answer.finished
    assert answer.keep_alive


def test_chunk_data_that_looks_like_the_end_is_not_the_end() -> None:
    trap = b"\r\n0\r\n\r\n"
    data = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (len(trap), trap)
    assert not feed(data).finished


@given(st.binary(max_size=60), CUTS)
def test_content_length_ends_the_answer(body: bytes, cuts: tuple[int, ...]) -> None:
    answer = feed(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, cuts)
    assert answer.finished
    assert answer.keep_alive


def test_without_framing_the_connection_ends_the_answer() -> None:
    answer = feed(HEAD + b"\r\ndata: a\n\n")
    assert not answer.finished
    assert answer.close()
    assert not answer.keep_alive


def test_closing_in_the_middle_of_a_framed_answer_does_not_end_it() -> None:
    assert not feed(HEAD + b"Content-Length: 10\r\n\r\nabc").close()
    assert not feed(HEAD[:20]).close()


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [(b"1.1", b"", True), (b"1.1", b"close", False), (b"1.0", b"", False), (b"1.0", b"Keep-Alive", True)],
)
def test_keep_alive_is_as_announced(version: bytes, connection: bytes, keep_alive: bool) -> None:
    answer = feed(b"HTTP/%b 200 OK\r\nConnection: %b\r\nContent-Length: 0\r\n\r\n" % (version, connection))
    assert answer.keep_alive == keep_alive


def test_interim_answers_are_passed_over() -> None:
    answer = feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", cuts=(10, 30))
    assert answer.status == 200
    assert answer.finished


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"HTTP/2 200\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES, "exceeds"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n", "exceeds"),
        (HEAD + b"Content-Length: many\r\n\r\n", "no number"),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", "no number"),
        (HEAD + b"Content-Length: 1\r\n\r\nab", "more bytes"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "transfer encoding"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "no number"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", "no number"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", "no number"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000, "without end"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1", "after the end"),
    ],
)
def test_what_breaks_the_protocol_is_refused(data: bytes, fault: str) -> None:
    with pytest.raises(BadAnswer, match=fault):
        feed(data)


@given(st.binary(max_size=200), CUTS)
def test_garbage_raises_nothing_but_its_own_error(data: bytes, cuts: tuple[int, ...]) -> None:
    for prefix in (b"", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"):
        with suppress(BadAnswer):
            feed(prefix + data, cuts)


@given(st.integers(1, 1 << 31))
def test_chunk_sizes_are_hexadecimal(size: int) -> None:
    assert chunk_size(b"%x" % size) == chunk_size(b"%X;ext=1" % size) == size
