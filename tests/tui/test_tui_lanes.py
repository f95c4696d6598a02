"""Trials side by side: the numbers shown are those of one trial, and the screen says of which."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sessions.columns import COLUMNS
from sessions.reader import SessionReader
from tests.tui.sample_session import META, hand_recorder
from tests.tui.screen_helpers import running_app, shown, snapshot_of, text_of
from tui.building import SnapshotBuilder, ViewRequest
from tui.clock import ViewClock
from tui.glyphs import BRAILLE
from tui.utilisation import mfu
from tui.widgets.server_panel import requests_row
from tui.widgets.status import strip_row

if TYPE_CHECKING:
    from pathlib import Path

    from sessions.recorder import Recorder

S = 1_000_000_000
IN_FLIGHT = {"": 11.0, "lane1": 22.0, "lane2": 33.0}
"""What tells the lanes apart."""


def sample_lanes(recorder: Recorder, lanes: tuple[str, ...], seconds: range) -> None:
    for lane in lanes:
        before = f"{lane}/" if lane else ""
        for kind, column in (("engine", "running"), ("load", "in_flight")):
            source = recorder.add_source(kind, f"{before}{kind}", {})
            for second in seconds:
                row = [IN_FLIGHT[lane] if each.name == column else math.nan for each in COLUMNS[kind]]
                recorder.add_sample(source, second * S, row)


@pytest.fixture
def side_by_side(tmp_path: Path) -> Path:
    """A baseline alone (0 to 10 s), then trials 1 to 3 beside each other; trial 3, on lane2, is the newest and ends first."""
    recorder, clock = hand_recorder(tmp_path / "lanes.trtune", META)
    baseline = recorder.start_trial("baseline", {"max_batch_size": 256})
    sample_lanes(recorder, ("",), range(10))
    clock.set_s(10.0)
    recorder.end_trial(baseline, "complete", score=1000.0, feasible=True)
    for number, lane in enumerate(IN_FLIGHT, start=1):
        recorder.start_trial("search", {"max_batch_size": 256 * number})
        if lane:
            recorder.event("placed", f"trial {number} runs on {lane}", trial=number, data={"lane": lane})
    sample_lanes(recorder, tuple(IN_FLIGHT), range(11, 30))
    clock.set_s(20.0)
    recorder.end_trial(3, "complete", score=1200.0, feasible=True)
    clock.set_s(30.0)
    for number in (1, 2):
        recorder.end_trial(number, "complete", score=1100.0, feasible=True)
    recorder.set_worker("done", "over")
    recorder.close()
    return recorder.path


@pytest.mark.parametrize(
    ("at_s", "in_flight", "told"),
    [
        (5.0, 11.0, ""),
        (15.0, 33.0, "3 trials side by side, this one on lane2"),
        (25.0, 22.0, "2 trials side by side, this one on lane1"),
    ],
)
def test_server_and_load_are_those_of_the_newest_trial(
    side_by_side: Path, at_s: float, in_flight: float, told: str
) -> None:
    with SessionReader(side_by_side) as reader:
        snapshot = snapshot_of(reader, at_s=at_s)

    assert snapshot.engine is not None
    assert snapshot.load is not None
    assert (snapshot.engine.value("running"), snapshot.load.value("in_flight")) == (in_flight, in_flight)
    assert f"{in_flight:.0f}" in text_of([requests_row(snapshot, 120, BRAILLE)])
    strip = text_of([strip_row(snapshot, 120, BRAILLE)])
    assert told in strip
    assert bool(told) == ("side by side" in strip)


async def test_screen_says_how_many_trials_run_side_by_side(side_by_side: Path) -> None:
    async with running_app(side_by_side, mode="replay", size=(120, 40)) as (app, pilot):
        app.ask(replace(app.request, clock=ViewClock(pinned=False, anchor_ns=15 * S)))
        await pilot.pause(0.3)
        text = shown(app)

    assert "trial 3" in text
    assert "3 trials side by side" in text
    assert "33 running" in text


def test_no_numbers_of_another_trial_stand_in_for_those_of_one_that_just_starts(tmp_path: Path) -> None:
    recorder, clock = hand_recorder(tmp_path / "starting.trtune", META)
    recorder.start_trial("search", {"max_batch_size": 256})
    sample_lanes(recorder, ("",), range(10))
    clock.set_s(9.0)
    recorder.start_trial("search", {"max_batch_size": 512})
    recorder.event("placed", "trial 1 runs on lane1", trial=1, data={"lane": "lane1"})
    recorder.close()

    with SessionReader(recorder.path) as reader:
        snapshot = snapshot_of(reader)

    assert snapshot.running is not None
    assert snapshot.running.number == 1
    assert snapshot.engine is None
    assert snapshot.load is None


def test_compared_trial_keeps_its_own_lane(side_by_side: Path) -> None:
    with SessionReader(side_by_side) as reader:
        request = ViewRequest(ViewClock(pinned=False, anchor_ns=15 * S), selected_trial=1, sampled_trial=1)
        snapshot = SnapshotBuilder(reader).build(request, now_ns=0, now_utc_ns=0)

    assert snapshot.load is not None
    assert snapshot.load.value("in_flight") == IN_FLIGHT[""]


def test_session_that_does_not_tell_lanes_shows_the_source_sampled_last(tmp_path: Path) -> None:
    recorder, clock = hand_recorder(tmp_path / "old.trtune", META)
    recorder.start_trial("search", {"max_batch_size": 256})
    sample_lanes(recorder, ("",), range(5))
    sample_lanes(recorder, ("lane1",), range(8))
    clock.set_s(8.0)
    recorder.close()

    with SessionReader(recorder.path) as reader:
        snapshot = snapshot_of(reader)

    assert snapshot.load is not None
    assert snapshot.load.value("in_flight") == IN_FLIGHT["lane1"]


def test_gpus_of_other_trials_count_for_no_utilisation(side_by_side: Path) -> None:
    with SessionReader(side_by_side) as reader:
        snapshot = snapshot_of(reader, at_s=15.0)
    assert snapshot.load is not None
    gpus = tuple(replace(snapshot.load, name=name, info={"peak_flops_s": 1e15}) for name in ("gpu0", "lane2/gpu1"))

    assert [gpu.place for gpu in gpus] == ["0", "2/1"]
    assert replace(snapshot, gpus=gpus).own_gpus == gpus[1:]
    assert replace(snapshot, gpus=gpus[:1]).own_gpus == ()
    assert math.isnan(mfu(replace(snapshot, gpus=gpus[:1])))
