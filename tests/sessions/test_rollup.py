"""Samples in short: what a span says is what its samples say, however it came about."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.clock import NS_PER_S
from sessions.columns import LOAD_COLUMNS
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.rollup import WIDTHS_S, group_samples, group_spans, span_of_samples

NAN = math.nan
LONG_S = 3 * WIDTHS_S[1]


def values(number: float) -> list[float]:
    return [number, NAN, *([0.0] * (len(LOAD_COLUMNS) - 2))]


def record(path: Path, seconds: int, *, close_after: int | None = None) -> int:
    """One sample a second whose first column counts them, flushed every ten; returns the source."""
    recorder = Recorder.create(path, {})
    source = recorder.add_source("load", "load", {})
    for second in range(seconds):
        recorder.add_sample(source, second * NS_PER_S, values(second))
        if second % 10 == 9:
            recorder.flush()
        if second == close_after:
            recorder.close()
            recorder = Recorder.resume(path)
            source = recorder.add_source("load", "load", {})
    recorder.close()
    return source


@pytest.mark.parametrize("width_s", WIDTHS_S)
@pytest.mark.parametrize("close_after", [None, 100])
def test_spans_cover_the_session_with_lowest_highest_mean_and_last(
    tmp_path: Path, width_s: int, close_after: int | None
) -> None:
    source = record(tmp_path / "run.trtune", LONG_S, close_after=close_after)

    with SessionReader(tmp_path / "run.trtune") as reader:
        spans = reader.spans(source, 0, LONG_S * NS_PER_S, width_s=width_s)

    assert [span.start_ns for span in spans] == [place * width_s * NS_PER_S for place in range(LONG_S // width_s)]
    for place, span in enumerate(spans):
        first, last = place * width_s, (place + 1) * width_s - 1
        assert (span.low[0], span.high[0], span.last[0], span.counts[0]) == (first, last, last, width_s)
        assert span.mean[0] == pytest.approx((first + last) / 2)
        assert math.isnan(span.low[1])
        assert span.counts[1] == 0


def test_most_spans_are_written_while_recording_and_the_newest_are_summed_up_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    source = record(path, 100)
    connection = sqlite3.connect(path)

    assert connection.execute("SELECT count(*) FROM rollup").fetchone() == (5,)
    with SessionReader(path) as reader:
        assert reader.spans(source, 0, 100 * NS_PER_S)[-1].last[0] == 99


def test_a_late_sample_changes_the_span_it_belongs_to(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    recorder = Recorder.create(path, {})
    source = recorder.add_source("load", "load", {})
    for second in (*range(1, 600), 0):
        recorder.add_sample(source, second * NS_PER_S, values(-5 if second == 0 else second))
        recorder.flush()
    recorder.close()

    with SessionReader(path) as reader:
        for width_s in WIDTHS_S:
            spans = reader.spans(source, 0, 600 * NS_PER_S, width_s=width_s)
            assert [span.counts[0] for span in spans[:2]] == [width_s, width_s]
            assert (spans[0].low[0], spans[0].last[0]) == (-5, width_s - 1)


def test_a_session_without_spans_is_summed_up_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    source = record(path, LONG_S)
    with SessionReader(path) as reader:
        written = reader.spans(source, 0, LONG_S * NS_PER_S, width_s=256)
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE rollup; PRAGMA user_version = 1;")
    connection.close()

    with SessionReader(path) as reader:
        computed = reader.spans(source, 0, LONG_S * NS_PER_S, width_s=256)
    assert [span.low[0] for span in computed] == [span.low[0] for span in written]
    assert [span.mean[0] for span in computed] == pytest.approx([span.mean[0] for span in written])


@given(st.lists(st.tuples(st.integers(0, 600), st.one_of(st.just(NAN), st.floats(-1e6, 1e6))), min_size=1, max_size=80))
def test_spans_of_spans_say_what_the_samples_say(told: list[tuple[int, float]]) -> None:
    samples = [(second * NS_PER_S, (value,)) for second, value in sorted(told, key=lambda each: each[0])]

    stepwise = group_spans(256, group_samples(16, samples))
    at_once = group_samples(256, samples)

    for ours, theirs in zip(stepwise, at_once, strict=True):
        assert (ours.start_ns, ours.counts) == (theirs.start_ns, theirs.counts)
        for mine, other in zip((ours.low, ours.high, ours.last), (theirs.low, theirs.high, theirs.last), strict=True):
            assert mine == pytest.approx(other, nan_ok=True)
        assert ours.mean == pytest.approx(theirs.mean, nan_ok=True, abs=1e-6)


def test_a_span_of_unknown_values_is_unknown() -> None:
    span = span_of_samples(0, 1, [(NAN,), (NAN,)])
    assert all(math.isnan(each[0]) for each in (span.low, span.high, span.mean, span.last))
