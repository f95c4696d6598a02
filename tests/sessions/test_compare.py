"""Comparing trials: what differs, by how much, and whether it is more than noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sessions.bootstrap import cut_window
from sessions.compare import compare, take_side
from sessions.comparison import DEFAULT, SCORED, Comparison, Side
from sessions.errors import SessionError
from sessions.metrics import summarise
from sessions.reader import SessionReader
from sessions.records import LevelRecord, Trial
from sessions.requests import RequestTable
from tests.sessions.made import META, MadeTrial, S, Speed, closed_loop, write_session

QUICK = Speed(tokens=5, gap_ms=40)
"""Few tokens a request: quick to make."""


def compared(*told: tuple[Path, int | None]) -> Comparison:
    sides = []
    for path, trial in told:
        with SessionReader(path) as reader:
            sides.append(take_side(reader, trial))
    return compare(sides)


@pytest.fixture
def session(tmp_path: Path) -> Path:
    return write_session(
        tmp_path / "made.trtune",
        [
            MadeTrial({"max_batch_size": 8}, {8: Speed(), 16: Speed(ttft_ms=300)}, "baseline"),
            MadeTrial({"max_batch_size": 64, "max_num_tokens": 4096}, {8: Speed(gap_ms=7), 16: Speed(ttft_ms=240, gap_ms=8)}),
            MadeTrial({"max_batch_size": 8}, {8: Speed()}),
        ],
    )  # fmt: skip


def test_settings_that_differ_are_told_and_others_are_not(session: Path) -> None:
    told = {each.name: each.values for each in compared((session, 0), (session, 1)).params}

    assert told == {"max_batch_size": (8, 64), "max_num_tokens": (DEFAULT, 4096)}


def test_conditions_that_differ_are_told(session: Path, tmp_path: Path) -> None:
    other = write_session(
        tmp_path / "other.trtune",
        [MadeTrial({}, {8: Speed()}, "baseline")],
        {"host": {**META["host"], "packages": {"numpy": "2.4"}}},
    )

    told = {each.name: each.values for each in compared((session, 0), (other, 0)).conditions}

    assert told == {"numpy": ("2.0", "2.4")}


def test_a_real_difference_is_found_with_its_size(session: Path) -> None:
    ((_, row),) = [
        (load, row) for load, row in compared((session, 0), (session, 1)).metric("tpot", "p50") if load.kind != SCORED
        and load.values[0] == 8
    ]  # fmt: skip

    change = row.changes[1]
    assert change is not None
    assert change.relative == pytest.approx(-0.3, abs=0.05)
    assert change.low is not None
    assert change.high is not None
    assert change.low < -0.3 < change.high
    assert change.significant
    assert change.better


def test_the_same_setting_again_is_rarely_called_different() -> None:
    called = 0
    for seed in range(30):
        sides = [side_of(str(side), closed_loop(QUICK, seed=2 * seed + side)) for side in (0, 1)]
        ((_, row),) = compare(sides, [("e2e", "p50")]).metric("e2e", "p50")
        assert row.changes[1] is not None
        called += bool(row.changes[1].significant)
    assert called <= 5


def test_results_are_compared_at_every_common_load(session: Path) -> None:
    loads = compared((session, 0), (session, 1)).loads

    assert [(load.kind, load.values) for load in loads] == [("concurrency", (16.0, 16.0)), ("concurrency", (8.0, 8.0))]
    assert [row.label for row in loads[0].metrics][:3] == ["output_token_throughput", "request_throughput", "goodput"]
    shares = loads[0].distributions[0].shares
    assert [sum(side) for side in shares] == pytest.approx([1.0, 1.0])


def test_scores_at_different_loads_are_compared_as_such(session: Path) -> None:
    first = compared((session, 2), (session, 1)).loads[0]

    assert first.kind == SCORED
    assert first.values == (8.0, 16.0)


def test_a_short_measurement_makes_no_claim(tmp_path: Path) -> None:
    session = write_session(
        tmp_path / "short.trtune",
        [MadeTrial({}, {1: Speed(tokens=80)}, "baseline"), MadeTrial({}, {1: Speed(tokens=80)})],
    )

    comparison = compared((session, 0), (session, 1))

    changes = [row.changes[1] for load in comparison.loads for row in load.metrics]
    assert all(change is not None and change.significant is None for change in changes)
    assert any("too few requests" in note for note in comparison.notes)


def test_the_best_trial_is_taken_when_none_is_named(session: Path) -> None:
    with SessionReader(session) as reader:
        assert take_side(reader).trial.number == 1


def test_a_trial_that_is_not_there_is_named(session: Path) -> None:
    with SessionReader(session) as reader, pytest.raises(SessionError, match=r"no trial 9; there are 3"):
        take_side(reader, 9)


def side_of(name: str, table: RequestTable) -> Side:
    """A trial that was measured once, by its requests."""
    window = (S, 9 * S)
    level = LevelRecord(1, 0, "concurrency", 8, "valid", 0, 1, window, summarise(table, *window), ())
    trial = Trial(0, "search", "complete", {}, 0)
    return Side(name, "", trial, False, {}, ((level, cut_window(table, *window)),))


@pytest.mark.parametrize("window", [(-(1 << 62), 1 << 62), (0, 1 << 62)])
def test_windows_as_long_as_no_session_are_cut_all_the_same(window: tuple[int, int]) -> None:
    table = closed_loop(QUICK)
    late = replace(table, sent_ns=table.sent_ns + (1 << 58), end_ns=table.end_ns + (1 << 58))

    for metric in ("output_token_throughput", "e2e"):
        told = cut_window(late, *window).draws(metric, "avg")
        assert told is None or told.values.size


def test_times_that_run_backwards_are_compared_all_the_same() -> None:
    table = closed_loop(QUICK)
    backwards = replace(table, scheduled_ns=table.end_ns + S)

    (load,) = compare([side_of("one", backwards), side_of("other", backwards)]).loads

    told = {each.metric: each for each in load.distributions}
    assert told["e2e"].edges[-1] < 0
    assert sum(told["e2e"].shares[0]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("metric", "stat"),
    [
        ("output_token_throughput", "avg"),
        ("ttft", "p50"),
        ("ttft", "p99"),
        ("itl", "avg"),
        ("request_throughput", "avg"),
    ],
)
def test_the_window_in_blocks_says_what_the_metrics_say(metric: str, stat: str) -> None:
    table = closed_loop(Speed(), concurrency=32)
    window = cut_window(table, S, 9 * S)

    value = window.value(metric, stat)

    assert value == pytest.approx(summarise(table, S, 9 * S)[metric][stat], rel=0.02)


def coverage(metric: str, stat: str, *, blocked: bool) -> float:
    """How often the interval holds the truth: the mean over all runs of a server whose speed wanders within a second."""
    windows = [cut_window(closed_loop(QUICK, seed=seed, slow=0.1, end_ns=22 * S), S, 21 * S) for seed in range(60)]
    values = [value for window in windows if (value := window.value(metric, stat)) is not None]
    truth = float(np.mean(values))
    held = 0
    for value, window in zip(values, windows, strict=True):
        draws = window.draws(metric, stat)
        assert draws is not None
        data = window.distributions[metric].value if metric in window.distributions else np.empty(0)
        half = draws.half_width() if blocked else 1.96 * float(data.std()) / np.sqrt(len(data))
        held += abs(value - truth) <= half
    return held / len(windows)


@pytest.mark.parametrize(("metric", "stat"), [("e2e", "avg"), ("ttft", "p90"), ("output_token_throughput", "avg")])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(metric: str, stat: str) -> None:
    assert coverage(metric, stat, blocked=True) >= 0.85


def test_taking_requests_for_independent_would_hold_it_far_less_often() -> None:
    assert coverage("e2e", "avg", blocked=False) < 0.75
