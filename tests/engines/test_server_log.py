"""Lines of a server's log: cut, cleaned, kept within bounds, searched."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from engines.failure import FailureRule
from engines.launch.log import FIRST_LINES, LAST_LINES, MAX_LINE_CHARS, LineSplitter, ServerLog

SPECIFIC = FailureRule("specific", re.compile("needle"), "found it")
GENERIC = FailureRule("generic", re.compile("failed"), "something failed", fatal=False)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 7))
def test_lines_do_not_depend_on_how_the_pipe_cuts_them(lines: list[bytes], size: int) -> None:
    text = b"".join(line.replace(b"\n", b"").replace(b"\r", b"") + b"\n" for line in lines)
    whole, parts = LineSplitter(), LineSplitter()

    expected = whole.feed(text)
    found = [line for start in range(0, len(text), size) for line in parts.feed(text[start : start + size])]

    assert found == expected
    assert len(found) == len(lines)


@given(st.lists(st.binary(max_size=20_000), max_size=8))
def test_a_line_that_never_ends_takes_bounded_memory(chunks: list[bytes]) -> None:
    splitter = LineSplitter()

    for chunk in chunks:
        splitter.feed(chunk.replace(b"\n", b" "))

    assert all(len(line) <= MAX_LINE_CHARS + 2 for line in splitter.close())


def test_the_last_line_counts_without_its_line_end() -> None:
    splitter = LineSplitter()

    assert splitter.feed(b"one\ntw") == ["one"]
    assert splitter.feed(b"o") == []
    assert splitter.close() == ["two"]


def test_of_a_progress_bar_the_last_state_stays() -> None:
    assert LineSplitter().feed(b"1%\r 50%\r100%\r\n") == ["100%"]


def test_first_and_last_lines_stay() -> None:
    log = ServerLog(())

    for number in range(10_000):
        log.add(str(number))

    assert log.lines[:2] == ("0", "1")
    assert log.lines[-1] == "9999"
    assert len(log.lines) == FIRST_LINES + LAST_LINES


def test_a_telling_line_counts_though_it_is_no_longer_kept() -> None:
    log = ServerLog((SPECIFIC, GENERIC))
    for number in range(1000):
        log.add(str(number))
    log.add("  the needle ")
    for number in range(10_000):
        log.add(str(number))

    failure = log.failure(exit_code=1)

    assert failure is not None
    assert (failure.kind, failure.line, failure.exit_code) == ("specific", "the needle", 1)


def test_the_first_rule_wins_whatever_came_first() -> None:
    log = ServerLog((SPECIFIC, GENERIC))
    log.add("it failed")

    log.add("needle")

    failure = log.failure()
    assert failure is not None
    assert failure.kind == "specific"


def test_what_was_said_before_ready_is_forgotten() -> None:
    log = ServerLog((GENERIC,))
    log.add("first try failed")

    log.forget_failures()

    assert log.failure() is None


def test_only_a_fatal_rule_ends_the_waiting() -> None:
    log = ServerLog((SPECIFIC, GENERIC))

    log.add("it failed")

    assert not log.fatal_seen
