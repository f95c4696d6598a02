"""Two trials beside each other: of one session, and of two."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from sessions.comparison import Change
from tests.tui.sample_session import TRIALS, write_sample_session
from tests.tui.screen_helpers import running_app, shown, text_of, until
from tui.comparing import ALIGNS, Compared, SideChoice, read_both
from tui.glyphs import BRAILLE
from tui.screens.compare import CompareScreen
from tui.widgets.compare_view import change_text, compared_plots, results_rows, settings_rows

if TYPE_CHECKING:
    from pathlib import Path

S = 1_000_000_000


@pytest.fixture(scope="module")
def both(sample: Path) -> Compared:
    return read_both(SideChoice(sample, 0), SideChoice(sample))


def test_the_best_stands_for_a_session_and_numbers_are_b_against_a(both: Compared) -> None:
    text = text_of(results_rows(both, 0, 70, 20, BRAILLE))

    assert both.second.trial.number == 6
    assert "output tokens/s" in text
    assert "+80 %" in text
    assert "-20 %" in text
    assert "simulated" in text


def test_settings_that_differ_stand_beside_each_other(both: Compared) -> None:
    rows = text_of(settings_rows(both, 60, 12, BRAILLE)).splitlines()

    assert any(row.split() == ["max_batch_size", "2048", "512"] for row in rows)
    assert not any("free_gpu_memory_fraction" in row for row in rows)


def test_curves_lie_on_one_axis_that_begins_with_the_trial(both: Compared) -> None:
    plots = compared_plots(both, ALIGNS[0], (0, 52 * S), None)
    first, second = next(plot for plot in plots if plot.title == "TTFT p99 ms").series

    assert 0 < first.times_ns[0] < 20 * S
    assert 0 < second.times_ns[0] < 20 * S
    assert second.dotted
    assert not first.dotted


def test_a_cursor_makes_the_headings_tell_its_moment(both: Compared) -> None:
    plot = next(p for p in compared_plots(both, ALIGNS[0], (0, 52 * S), 30 * S) if p.title == "output tokens/s")

    assert plot.marks_ns == (30 * S,)
    assert plot.series[1].told() != compared_plots(both, ALIGNS[0], (0, 52 * S), 45 * S)[1].series[1].told()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (None, ""),
        (Change(5.0, None), "+5"),
        (Change(5.0, 0.5), "+50 %"),
        (Change(5.0, 0.5, 0.4, 0.6, True, True), "+50 %  +40 to +60 %"),
        (Change(0.1, 0.01, -0.02, 0.04, False, True), "may be noise"),
    ],
)
def test_changes_carry_sign_interval_and_doubt(change: Change | None, told: str) -> None:
    assert told in change_text(change)


def test_a_trial_that_was_not_measured_is_shown_without_numbers(sample: Path) -> None:
    compared = read_both(SideChoice(sample, 0), SideChoice(sample, 2))

    assert compared.numbers is None
    assert "no valid measurement" in text_of(results_rows(compared, 0, 90, 6, BRAILLE))
    assert "65536" in text_of(settings_rows(compared, 60, 12, BRAILLE))


async def test_trial_is_compared_from_the_screen(sample: Path) -> None:
    async with running_app(sample, screen="tune", size=(120, 40)) as (app, pilot):
        await pilot.press("up")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.selected is app.snapshot.trials[6])
        await pilot.press("c")
        await until(pilot, lambda: "Compare trial 6 with" in shown(app))
        assert "trial 0  baseline" in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: "settings that differ" in shown(app))
        assert "A ─── " in shown(app)

        await pilot.press("right", "right")
        assert isinstance(app.screen, CompareScreen)
        assert app.screen.view.cursor_ns is not None
        await pilot.press("plus")
        assert app.screen.view.window_ns is not None
        await pilot.press("minus", "z", "l", "o")
        assert "aligned at: start of measuring" in shown(app)
        await pilot.press("x")
        await until(pilot, lambda: "trial 6" in shown(app).splitlines()[0])

        await pilot.press("t", *"99", "enter")
        await until(pilot, lambda: "has no trial 99" in shown(app))
        await pilot.press("escape")
        assert not isinstance(app.screen, CompareScreen)


async def test_two_sessions_are_compared_from_the_list(sample: Path, tmp_path: Path) -> None:
    shutil.copy(sample, tmp_path / "one.trtune")
    write_sample_session(tmp_path / "two.trtune", trials=TRIALS[:2], gpus=1)

    async with running_app(None, sessions_dir=tmp_path) as (app, pilot):
        await until(pilot, lambda: "llama-3.1-8b-chat" in shown(app))
        await pilot.press("c")
        assert "choose B" in shown(app)
        await pilot.press("down", "c")
        await until(pilot, lambda: "settings that differ" in shown(app))

        text = shown(app)
        assert "trial 1" in text
        assert "trial 6" in text


async def test_a_session_that_cannot_be_read_is_told(sample: Path, tmp_path: Path) -> None:
    async with running_app(sample) as (app, pilot):
        app.push_screen(CompareScreen(SideChoice(sample), SideChoice(tmp_path / "gone.trtune")))
        await until(pilot, lambda: "gone.trtune" in shown(app))
