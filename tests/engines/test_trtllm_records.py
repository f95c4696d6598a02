"""Iteration records: validated, ordered, placed in time."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines._trtllm_records import LARGEST, TIMESTAMP_FORMAT, RecordStream, number, parse_record, parse_wall_s

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = ("iter", "timestamp", "numActiveRequests", "kvCacheStats", "inflightBatchingStats", "specDecodingStats")


def stamp(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime(TIMESTAMP_FORMAT)


def record(iteration: int, wall_s: float | None = None, **more: Any) -> dict[str, Any]:
    return {"iter": iteration, "timestamp": "" if wall_s is None else stamp(wall_s), **more}


def iterations(stream: RecordStream, page: list[object], arrival_s: float = 0.0) -> list[int]:
    return [found.iteration for _, found in stream.accept(page, arrival_s)]


def test_recorded_records_are_read(data: Path) -> None:
    page = json.loads((data / "trtllm/metrics.json").read_text())

    placed = RecordStream().accept(page, 1000.0)

    _, first = placed[0]
    assert len(placed) == len(page)
    assert (first.iteration, first.active, first.scheduled, first.context_requests) == (0, 1, 1, 1)
    assert (first.kv_used_blocks, first.kv_max_blocks, first.tokens_per_block) == (1, 1000, 32)
    assert math.isnan(first.host_step_ms)


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING) | ANYTHING)
def test_any_record_is_read_or_refused(data: object) -> None:
    found = parse_record(data)

    assert found is None or 0 <= found.iteration <= LARGEST


@pytest.mark.parametrize("value", [True, "7", None, [], math.nan, math.inf, -1, 2**63, 10**400])
def test_what_is_no_measurement_counts_as_not_said(value: object) -> None:
    assert math.isnan(number({"key": value}, "key"))


@given(st.text())
def test_any_time_stamp_is_read_or_left(text: str) -> None:
    assert math.isnan(parse_wall_s(text)) or parse_wall_s(text) == parse_wall_s(text)


def test_duplicates_are_dropped_within_a_page_and_between_pages() -> None:
    stream = RecordStream()

    assert iterations(stream, [record(2), record(1), record(2)]) == [1, 2]
    assert iterations(stream, [record(2), record(3)]) == [3]
    assert stream.lost == 0


def test_gaps_are_counted() -> None:
    stream = RecordStream()

    iterations(stream, [record(10), record(12)])
    iterations(stream, [record(20)])

    assert stream.lost == 1 + 7


def test_the_servers_own_count_of_lost_records_is_preferred() -> None:
    stream = RecordStream()

    iterations(stream, [record(1, statsDroppedFrames=5), record(9, statsDroppedFrames=8)])

    assert stream.lost == 3


def test_what_is_no_record_counts_as_lost() -> None:
    stream = RecordStream()

    assert iterations(stream, [record(1), "text", {"iter": -3}, None]) == [1]
    assert stream.lost == 3


def test_a_restarted_server_begins_again() -> None:
    stream = RecordStream()
    iterations(stream, [record(5000)])

    assert iterations(stream, [record(3), record(4)]) == [3, 4]
    assert stream.lost == 0


def test_ranks_of_one_iteration_are_merged() -> None:
    page: list[object] = [
        record(1, attentionDpRank=0, numActiveRequests=3, hostStepTimeMS=5.0),
        record(1, attentionDpRank=1, numActiveRequests=4, hostStepTimeMS=7.0),
    ]

    ((_, merged),) = RecordStream().accept(page, 0.0)

    assert (merged.active, merged.host_step_ms) == (7, 7.0)


def test_differences_of_time_stamps_give_the_times_and_the_quickest_arrival_the_offset() -> None:
    stream = RecordStream()

    late = stream.accept([record(1, 1000.0), record(2, 1000.5)], arrival_s=51.5)
    prompt = stream.accept([record(3, 1001.0)], arrival_s=51.1)
    later = stream.accept([record(4, 1001.5), record(5, 1002.0)], arrival_s=53.0)

    assert [when for when, _ in late] == pytest.approx([51.0, 51.5], abs=1e-3)
    assert [when for when, _ in prompt] == pytest.approx([51.1], abs=1e-3)
    assert [when for when, _ in later] == pytest.approx([51.6, 52.1], abs=1e-3)


def test_a_clock_that_jumps_by_an_hour_is_followed() -> None:
    stream = RecordStream()
    stream.accept([record(1, 1000.0)], arrival_s=50.0)

    ((when, _),) = stream.accept([record(2, 4600.5)], arrival_s=50.6)

    assert when == pytest.approx(50.6, abs=1e-3)


def test_records_without_a_time_get_that_of_their_arrival() -> None:
    ((when, _),) = RecordStream().accept([record(1)], arrival_s=7.0)

    assert when == 7.0


@given(st.lists(st.lists(st.integers(0, 300), max_size=20), max_size=6))
def test_every_iteration_is_given_out_once_and_in_order(pages: list[list[int]]) -> None:
    stream = RecordStream()
    given_out: list[int] = []
    for page in pages:
        restarted = bool(page) and bool(given_out) and max(page) < given_out[-1]
        given_out = [*([] if restarted else given_out), *iterations(stream, [record(number) for number in page])]

    assert given_out == sorted(set(given_out))
