"""Every key by which one moves through a session and reads it, on real files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input

from tests.tui.screen_helpers import S, at_s, running_app, shown, sought, until
from tui.screens.help import HelpScreen
from tui.screens.log import LogScreen
from tui.screens.prompt import PromptScreen
from tui.screens.tune import TuneScreen

if TYPE_CHECKING:
    from pathlib import Path


async def test_digits_switch_screens(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        for key, mode in [("2", "tune"), ("3", "sessions"), ("4", "log"), ("1", "live")]:
            await pilot.press(key)
            assert app.current_mode == mode


async def test_arrows_brackets_and_braces_seek(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        assert await sought(app, pilot, "home") == 0
        assert await sought(app, pilot, "right") == pytest.approx(5)
        assert await sought(app, pilot, "shift+right") == pytest.approx(65)
        assert await sought(app, pilot, "left") == pytest.approx(60)
        assert await sought(app, pilot, "right_square_bracket") == pytest.approx(81)
        assert await sought(app, pilot, "left_square_bracket") == pytest.approx(40.5)
        assert await sought(app, pilot, "right_curly_bracket") == pytest.approx(81)
        assert await sought(app, pilot, "left_curly_bracket") == pytest.approx(40.5)
        assert await sought(app, pilot, "full_stop") == pytest.approx(41)
        assert await sought(app, pilot, "comma") == pytest.approx(40.5)
        assert await sought(app, pilot, "ctrl+right") == pytest.approx(70.3)
        assert await sought(app, pilot, "end") == pytest.approx(298)


async def test_space_plays_and_pauses(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        await sought(app, pilot, "home")
        await pilot.press("greater_than_sign", "greater_than_sign", "greater_than_sign", "space")
        await until(pilot, lambda: at_s(app) > 2)
        assert "x8" in shown(app)

        await pilot.press("space")

        assert not app.request.clock.playing


async def test_speed_stays_in_its_range(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        await pilot.press(*["greater_than_sign"] * 8)
        assert app.request.clock.speed == 64

        await pilot.press(*["less_than_sign"] * 10)
        assert app.request.clock.speed == 0.25


async def test_go_to_takes_moments_and_refuses_others(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        await pilot.press("g", *"nonsense", "enter")
        assert "is no moment" in shown(app)
        assert isinstance(app.screen, PromptScreen)

        app.screen.query_one(Input).value = "t3"
        await pilot.press("enter")
        await until(pilot, lambda: at_s(app) == pytest.approx(99))


async def test_follow_goes_back_to_the_present(live: Path) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        await sought(app, pilot, "home")
        assert "REPLAY" in shown(app)

        await sought(app, pilot, "f")

        assert app.request.clock.pinned
        assert "LIVE" in shown(app)


async def test_zoom_changes_the_window_of_the_plots(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        await sought(app, pilot, "home", "right_square_bracket")

        def window_s() -> tuple[float, float]:
            assert app.snapshot is not None
            return app.snapshot.window_ns[0] / S, app.snapshot.window_ns[1] / S

        await pilot.press("z")
        await until(pilot, lambda: window_s() == (40.5, 81))
        await pilot.press("Z")
        await until(pilot, lambda: window_s()[0] == 0)
        await pilot.press("Z", "plus")
        await until(pilot, lambda: window_s()[1] - window_s()[0] < 40)


async def test_range_is_chosen_by_its_two_ends(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        await sought(app, pilot, "home", "shift+right")
        await pilot.press("a")
        await sought(app, pilot, "shift+right")
        await pilot.press("a")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.window_ns == (60 * S, 120 * S))

        await pilot.press("a")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.window_ns != (60 * S, 120 * S))


async def test_views_of_the_search_take_turns(sample: Path) -> None:
    async with running_app(sample, screen="tune") as (app, pilot):
        for told in ("importance of the knobs", "effect of max_batch_size", "Pareto", "enqueued by hand", "history"):
            assert told not in shown(app) or told == "enqueued by hand"
            await pilot.press("v")
            assert told in shown(app)
        await pilot.press("v", "v", "n")
        assert "effect of tensor_parallel_size" in shown(app)
        await pilot.press("N", "V")
        assert "importance of the knobs" in shown(app)


@pytest.mark.parametrize("key", ["1", "2", "3", "4"])
async def test_help_is_on_every_screen(sample: Path, key: str) -> None:
    async with running_app(sample) as (app, pilot):
        await pilot.press(key)
        await pilot.pause()
        await pilot.press("question_mark")

        assert isinstance(app.screen, HelpScreen)
        assert "What every key does" in shown(app)

        await pilot.press("escape")
        assert not isinstance(app.screen, HelpScreen)


async def test_palette_offers_the_actions(sample: Path) -> None:
    async with running_app(sample) as (app, _):
        titles = {command.title for command in app.get_system_commands(app.screen)}

    assert {"go to", "follow", "whole session", "mark", "live", "tune", "leave"} <= titles
    assert "Quit" not in titles  # which would leave without the question


async def test_key_bar_names_the_keys_and_runs_them_by_click(sample: Path) -> None:
    async with running_app(sample, size=(200, 60)) as (app, pilot):
        bar = shown(app).splitlines()[-1]
        assert "[] trial" in bar
        assert "q leave" in bar

        await pilot.click("KeyBar", offset=(bar.index("g go to"), 0))

        assert isinstance(app.screen, PromptScreen)


async def test_click_on_the_timeline_goes_there(sample: Path) -> None:
    async with running_app(sample, size=(100, 30)) as (app, pilot):
        await pilot.click("Timeline", offset=(50, 0))
        await until(pilot, lambda: 145 < at_s(app) < 155)


async def test_cursor_of_the_table_chooses_the_trial_in_detail(sample: Path) -> None:
    async with running_app(sample, screen="tune") as (app, pilot):
        await until(pilot, lambda: "trial 7 search skipped" in shown(app))
        await pilot.press(*["up"] * 5)

        await until(pilot, lambda: "out of memory: " in shown(app))
        assert isinstance(app.screen, TuneScreen)
        assert "accuses" in shown(app)


async def test_table_is_filled_when_its_screen_comes_later(sample: Path) -> None:
    async with running_app(sample, size=(80, 24)) as (app, pilot):
        await pilot.pause(0.2)
        await pilot.press("2")

        await until(pilot, lambda: "infeasible" in shown(app))
        assert "max_batch_size=512" in shown(app)


async def test_log_can_be_searched_and_filtered(sample: Path) -> None:
    async with running_app(sample, screen="log") as (app, pilot):
        await until(pilot, lambda: "session over" in shown(app))
        assert "!   01:29" in shown(app)

        await pilot.press("slash", *"startup", "enter")
        await until(pilot, lambda: "/startup: 7 found" in shown(app))
        await pilot.press("n", "N", "escape", "l", "l")
        await until(pilot, lambda: "from error" in shown(app))

        assert "session over" not in shown(app)
        assert "OutOfMemoryError" in shown(app)
        assert isinstance(app.screen, LogScreen)


async def test_log_goes_to_the_line_by_which_a_trial_failed(sample: Path) -> None:
    async with running_app(sample, screen="log", size=(120, 20)) as (app, pilot):
        await until(pilot, lambda: "session over" in shown(app))
        assert "OutOfMemoryError" not in shown(app)

        await pilot.press("F")

        assert "OutOfMemoryError" in shown(app)


async def test_log_stays_where_it_was_scrolled_to(sample: Path) -> None:
    async with running_app(sample, screen="log", size=(100, 20)) as (app, pilot):
        await until(pilot, lambda: "session over" in shown(app))
        await pilot.press("pageup")
        assert "session over" not in shown(app)
        assert "below" in shown(app)

        await pilot.press("pagedown")
        assert "following" in shown(app)


async def test_sessions_are_listed_previewed_and_opened(sample: Path, tmp_path: Path) -> None:
    shutil.copy(sample, tmp_path / "one.trtune")
    (tmp_path / "broken.trtune").write_text("no session")

    async with running_app(None, sessions_dir=tmp_path) as (app, pilot):
        await until(pilot, lambda: "BROKEN" in shown(app))
        assert "not a trtune session" in shown(app)
        assert "⏎ open" in shown(app)
        await pilot.press("question_mark")
        assert "open: Show the chosen session" in shown(app)
        assert "Select" not in shown(app)
        await pilot.press("escape", "end", "home", "enter")
        await pilot.pause()
        assert app.session is None

        await pilot.press("down")
        await until(pilot, lambda: "trial 6, 7410 tokens/s, +80" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.snapshot is not None)

        assert app.current_mode == "tune"
        assert app.session == tmp_path / "one.trtune"


async def test_sessions_can_be_searched(sample: Path, tmp_path: Path) -> None:
    shutil.copy(sample, tmp_path / "one.trtune")
    (tmp_path / "broken.trtune").write_text("no session")

    async with running_app(None, sessions_dir=tmp_path) as (app, pilot):
        await until(pilot, lambda: "BROKEN" in shown(app))
        await pilot.press("slash", *"llama", "enter")

        await until(pilot, lambda: "BROKEN" not in shown(app))
        assert "llama-3.1-8b-chat" in shown(app)


async def test_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    async with running_app(None, sessions_dir=tmp_path) as (app, pilot):
        await until(pilot, lambda: "trtune demo" in shown(app))
        await pilot.press("1")

        assert app.current_mode == "sessions"


async def test_session_that_vanishes_is_told_and_its_numbers_kept(live: Path) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        live.unlink()

        await until(pilot, lambda: "UNREADABLE" in shown(app))
        assert "the session file is gone" in shown(app)
        assert app.snapshot is not None
        assert not app.snapshot.fresh


async def test_file_that_is_no_session_is_told(tmp_path: Path) -> None:
    path = tmp_path / "text.trtune"
    path.write_text("hello")

    async with running_app(None, sessions_dir=tmp_path) as (app, pilot):
        app.open_session(path, "replay")
        app.action_view("live")

        await until(pilot, lambda: "is not a trtune session" in shown(app))
