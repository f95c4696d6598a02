from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sessions.columns import COLUMNS
from sessions.reader import SessionReader
from tests.tui.sample_session import META, hand_recorder, write_sample_session
from tests.tui.screen_helpers import snapshot_of
from tui.building import DEFAULT_WINDOW_NS, SnapshotBuilder, ViewRequest
from tui.clock import ViewClock

if TYPE_CHECKING:
    from pathlib import Path

    from tui.snapshot import Snapshot

S = 1_000_000_000


def test_snapshot_of_the_end_shows_the_outcome(end_snapshot: Snapshot) -> None:
    assert end_snapshot.state.word == "DONE"
    assert len(end_snapshot.trials) == 8
    assert end_snapshot.running is None
    assert end_snapshot.best is not None
    assert end_snapshot.best.number == 6
    assert end_snapshot.gain_ratio(end_snapshot.best) == pytest.approx(7410 / 4120 - 1)


def test_snapshot_of_a_moment_knows_nothing_of_the_future(sample: Path) -> None:
    with SessionReader(sample) as reader:
        snapshot = snapshot_of(reader, at_s=120.0)

    assert snapshot.running is not None
    assert snapshot.running.number == 3
    assert snapshot.running.result == {}
    assert snapshot.best is not None
    assert snapshot.best.number == 1
    assert all(line.t_ns <= 120 * S for line in snapshot.logs)
    assert all(sample_.t_ns <= 120 * S for gpu in snapshot.gpus for sample_ in gpu.samples)


def test_snapshot_of_a_moment_knows_phase_and_level(busy_snapshot: Snapshot) -> None:
    assert busy_snapshot.phase is not None
    assert busy_snapshot.phase.name == "measure"
    assert busy_snapshot.level is not None
    assert busy_snapshot.level.value == 64


def test_timeline_knows_the_whole_session_at_every_moment(busy_snapshot: Snapshot) -> None:
    assert len(busy_snapshot.all_trials) == 8
    assert len(busy_snapshot.trials) == 7


def test_moving_window_reads_the_same_as_a_fresh_one(sample: Path) -> None:
    with SessionReader(sample) as reader:
        builder = SnapshotBuilder(reader)
        moved = None
        request = ViewRequest(ViewClock())
        for at_s in range(100, 200):
            request = ViewRequest(ViewClock(pinned=False, anchor_ns=at_s * S), 60 * S)
            moved = builder.build(request, now_ns=0, now_utc_ns=0)
        fresh = SnapshotBuilder(reader).build(request, now_ns=0, now_utc_ns=0)

    assert moved is not None
    assert moved.load is not None
    assert fresh.load is not None
    for ours, theirs in zip((*moved.gpus, moved.load), (*fresh.gpus, fresh.load), strict=True):
        assert ours.times_ns == theirs.times_ns
        assert ours.newest is not None
        assert theirs.newest is not None
        assert ours.newest.t_ns == theirs.newest.t_ns


def test_long_window_is_thinned_and_still_spans_everything(tmp_path: Path) -> None:
    path = tmp_path / "long.trtune"
    recorder, clock = hand_recorder(path, META)
    gpu = recorder.add_source("gpu", "gpu0", {})
    for second in range(0, 4 * 3600, 2):
        recorder.add_sample(gpu, second * S, [float(second % 100)] * len(COLUMNS["gpu"]))
    clock.set_s(4 * 3600)
    recorder.set_worker("done", "over")
    recorder.close()

    with SessionReader(path) as reader:
        track = SnapshotBuilder(reader).build(ViewRequest(ViewClock(), 0), now_ns=0, now_utc_ns=0).gpus[0]

    assert len(track.samples) < 3000
    drawn = {sample.values[0] for sample in track.samples[:30]}
    assert {0.0, 98.0} <= drawn
    assert track.times_ns[0] < 120 * S
    assert track.times_ns[-1] >= (4 * 3600 - 2) * S
    assert track.newest is not None
    assert track.newest.t_ns == (4 * 3600 - 2) * S


def test_old_sample_is_no_present_value(sample: Path) -> None:
    with SessionReader(sample) as reader:
        # Between trials the load says nothing for ten seconds and more.
        snapshot = snapshot_of(reader, at_s=95.0)

    assert snapshot.load is not None
    assert snapshot.load.stale
    assert snapshot.load.value("ttft_p99_ms") != snapshot.load.value("ttft_p99_ms")


def test_window_of_the_trial_is_its_span(sample: Path) -> None:
    with SessionReader(sample) as reader:
        request = ViewRequest(ViewClock(pinned=False, anchor_ns=120 * S), None)
        snapshot = SnapshotBuilder(reader).build(request, now_ns=0, now_utc_ns=0)

    trial = snapshot.all_trials[3]
    assert snapshot.window_ns == (trial.start_ns, trial.end_ns)


def test_young_session_fills_its_plots(sample: Path) -> None:
    with SessionReader(sample) as reader:
        snapshot = snapshot_of(reader, at_s=20.0, window_s=DEFAULT_WINDOW_NS / S)

    assert snapshot.window_ns == (-10 * S, 20 * S)


def test_nothing_is_due_while_nothing_happens(sample: Path) -> None:
    with SessionReader(sample) as reader:
        builder = SnapshotBuilder(reader)
        builder.build(ViewRequest(ViewClock()), now_ns=0, now_utc_ns=time.time_ns())

        assert not builder.due()


def test_session_that_grows_is_due_and_followed(tmp_path: Path) -> None:
    recorder, clock = hand_recorder(tmp_path / "grows.trtune", META)
    recorder.set_worker("running", "tuning")
    with SessionReader(recorder.path) as reader:
        builder = SnapshotBuilder(reader)
        builder.build(ViewRequest(ViewClock()), now_ns=0, now_utc_ns=time.time_ns())
        clock.set_s(12.0)
        recorder.start_trial("baseline", {"a": 1})
        recorder.set_worker("running", "tuning")

        assert builder.due()
        snapshot = builder.build(ViewRequest(ViewClock()), now_ns=0, now_utc_ns=time.time_ns())

    recorder.close()
    assert snapshot.at_ns == 12 * S
    assert snapshot.running is not None


def test_session_without_any_facts_is_shown(tmp_path: Path) -> None:
    path = write_sample_session(
        tmp_path / "bare.trtune",
        meta={
            "engine": None,
            "objective": 3,
            "knobs": {"a": 1},
            "budget": [],
            "workload": "x",
            "name": None,
            "kind": 7,
        },
    )

    with SessionReader(path) as reader:
        snapshot = snapshot_of(reader)

    assert snapshot.facts.engine == ""
    assert snapshot.facts.knobs == ()
    assert len(snapshot.trials) == 8
