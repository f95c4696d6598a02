"""Looking closer: requests, GPUs, iterations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sessions.reader import SessionReader
from sessions.records import Sample
from tests.tui.screen_helpers import running_app, shown, snapshot_of, text_of, until
from tui.glyphs import ASCII, BRAILLE
from tui.request_lives import read_lives
from tui.screens.inspect import InspectScreen, InspectView, LivesRead
from tui.widgets.gpu_detail import gpu_detail_rows
from tui.widgets.iteration_table import iteration_rows
from tui.widgets.request_chart import requests_rows

if TYPE_CHECKING:
    from pathlib import Path

    from tui.snapshot import Snapshot


@pytest.fixture(scope="module")
def chart(sample: Path) -> str:
    with SessionReader(sample) as reader:
        snapshot = snapshot_of(reader, at_s=258.0)
        level = reader.levels(6)[-1]
    return text_of(requests_rows(snapshot, level, read_lives(sample, level.id, "sent"), 3, (120, 33), BRAILLE))


def test_life_of_a_request_is_told_from_its_times(sample: Path) -> None:
    with SessionReader(sample) as reader:
        level = reader.levels(6)[-1]
    lives = read_lives(sample, level.id, "sent")
    life = lives.life(3)

    assert len(lives) == 12
    assert life.index == 3
    assert life.ttft_ms == pytest.approx(154.8)
    assert life.tpot_ms == pytest.approx(8.4)
    assert life.e2e_ms == pytest.approx(154.8 + 31 * 8.4)
    assert life.gaps_ms == pytest.approx([8.4] * 31)
    assert (life.isl_tokens, life.osl_tokens, life.status) == (1024, 32, "ok")


@pytest.mark.parametrize(
    ("queue_ms", "told"), [((10.0, 120.0), "about 120 ms"), ((120.0, 10.0), "about 10.0 ms"), ((10.0, 900.0), "")]
)
def test_servers_queue_is_the_one_told_closest_to_the_first_token(
    sample: Path, queue_ms: tuple[float, float], told: str
) -> None:
    with SessionReader(sample) as reader:
        snapshot = snapshot_of(reader, at_s=258.0)
        level = reader.levels(6)[-1]
    lives = read_lives(sample, level.id, "sent")
    first_ns = lives.life(3).first_ns
    assert first_ns is not None
    assert snapshot.engine is not None
    samples = tuple(Sample(first_ns - ago_ns, (value,)) for ago_ns, value in zip((10**9, 10**8), queue_ms, strict=True))
    times_ns = tuple(sample.t_ns for sample in samples)
    engine = replace(snapshot.engine, columns={"queue_ms": 0}, samples=samples, times_ns=times_ns, newest=samples[-1])

    chart = text_of(requests_rows(replace(snapshot, engine=engine), level, lives, 3, (120, 33), BRAILLE))

    assert ("the server's queue then took" in chart) == bool(told)
    assert told in chart


def test_requests_are_found_by_moment_and_ordered_by_slowness(sample: Path) -> None:
    with SessionReader(sample) as reader:
        level = reader.levels(6)[-1]
    lives = read_lives(sample, level.id, "sent")

    assert lives.place_at(level.start_ns) == 0
    assert lives.place_at(level.start_ns + 900_000_000) == 2
    slowest = lives.ordered("slowest end")
    assert slowest.life(0).e2e_ms == max(lives.life(place).e2e_ms or 0 for place in range(len(lives)))


def test_waterfall_shows_all_and_the_chosen_one_in_detail(chart: str) -> None:
    assert "requests of trial 6, concurrency 64" in chart
    assert "12 in order of: sent" in chart
    assert "request 3" in chart
    assert "queue and prefill 155 ms" in chart
    assert "32 tokens in 260 ms" in chart
    assert "░" in chart
    assert "█" in chart


def test_gpu_is_shown_with_all_that_is_sampled(busy_snapshot: Snapshot) -> None:
    text = text_of(gpu_detail_rows(busy_snapshot, 5, 120, 33, BRAILLE))

    assert "GPU 1 of 4" in text
    assert "NVIDIA H100 80GB HBM3" in text
    assert "power cap" in text
    for heading in ("busy %", "pipes %", "power W", "SM clock MHz", "memory GiB", "temperature C"):
        assert heading in text


def test_iterations_leave_out_what_nobody_tells(busy_snapshot: Snapshot) -> None:
    rows = text_of(iteration_rows(busy_snapshot, 120, 12, ASCII)).splitlines()

    assert "iteration ms" in rows[1]
    assert "accepted/step" not in rows[1]
    assert len(rows) == 12
    assert rows[-1].split()[0] == "04:18"


async def test_views_requests_and_levels_are_reached_by_keys(sample: Path) -> None:
    async with running_app(sample, screen="tune", size=(120, 40)) as (app, pilot):
        await pilot.press("up")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.selected is app.snapshot.trials[6])
        await pilot.press("i")
        await until(pilot, lambda: "requests of trial 6, concurrency 64" in shown(app))
        await pilot.press("up", "up")
        await until(pilot, lambda: "request 9" in shown(app))
        await pilot.press("o")
        assert "slowest start" in shown(app)
        await pilot.press("l")
        await until(pilot, lambda: "requests of trial 6, concurrency 16" in shown(app))

        assert "o order  l level" in shown(app)
        await pilot.press("tab")
        assert "GPU 0 of 4" in shown(app)
        await until(pilot, lambda: "other view" in shown(app) and "l level" not in shown(app))
        await pilot.press("down")
        assert "GPU 1 of 4" in shown(app)
        await pilot.press("i")
        assert "each row is one reading" in shown(app)

        await pilot.press("escape")
        assert not isinstance(app.screen, InspectScreen)
        assert "best against baseline" in shown(app)


async def test_requests_of_a_level_that_is_looked_at_no_more_are_left_aside(sample: Path) -> None:
    with SessionReader(sample) as reader:
        other, level = reader.levels(6)[-2:]
    async with running_app(sample, screen="tune", size=(120, 40)) as (app, pilot):
        await pilot.press("up")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.selected is app.snapshot.trials[6])
        await pilot.press("i")
        view = app.screen.query_one(InspectView)
        await until(pilot, lambda: view.lives is not None)
        assert view.level is not None
        assert view.level.id == level.id
        before = view.lives

        app.screen.post_message(LivesRead(other.id, 0, read_lives(sample, other.id, "sent"), ""))
        await pilot.pause(0.1)

        assert view.lives is before


async def test_requests_are_those_of_the_trial_chosen_on_tune_and_elsewhere_of_the_one_under_way(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune") as (app, pilot):
        assert app.snapshot is not None
        assert app.snapshot.level is not None
        running = app.snapshot.level.trial
        await pilot.press(*["up"] * 10, "enter")
        await until(pilot, lambda: "requests of trial 0," in shown(app))
        await pilot.press("escape", "1", "i")
        await until(pilot, lambda: f"requests of trial {running}," in shown(app))
        await pilot.press("escape", "2")
        await until(pilot, lambda: app.request.selected_trial == 0)


async def test_a_moment_before_any_load_shows_no_requests_of_another_trial(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        await pilot.press("i")
        await until(pilot, lambda: "requests of trial" in shown(app))
        await pilot.press("home")
        await until(pilot, lambda: "no level of load has begun here" in shown(app))
