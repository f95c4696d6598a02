"""Every key of the session screens, on real files."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input

from sessions.reader import SessionReader
from tests.tui.sample_session import write_sample_session
from tests.tui.screen_helpers import revive, running_app, shown, until
from tui.app import AppResult
from tui.front_door import FrontDoor
from tui.screens.confirm import ConfirmScreen
from tui.screens.form import FormScreen
from tui.screens.help import HelpScreen
from tui.screens.leave import LeaveScreen
from tui.screens.log import LogScreen
from tui.screens.prompt import PromptScreen
from tui.screens.tune import TuneScreen

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from sessions.records import Command
    from tui.app import TrtuneApp

S = 1_000_000_000


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A session whose worker is alive, and writes nothing more."""
    path = write_sample_session(tmp_path / "live.trtune", over=False)
    revive(path)
    return path


def commands(path: Path) -> list[Command]:
    with SessionReader(path) as reader:
        return list(reader.commands())


def at_s(app: TrtuneApp) -> float:
    assert app.snapshot is not None
    return app.snapshot.at_ns / S


async def sought(app: TrtuneApp, pilot: Pilot[AppResult], *keys: str) -> float:
    """Press keys and give the moment shown then, in seconds."""
    await pilot.press(*keys)
    await until(pilot, lambda: app.snapshot is not None and app.snapshot.clock == app.request.clock)
    return at_s(app)


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
        await pilot.press(*["greater_than_sign"] * 20)
        assert app.request.clock.speed == 64

        await pilot.press(*["less_than_sign"] * 20)
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


@pytest.mark.parametrize(("key", "kind"), [("p", "pause"), ("k", "skip")])
async def test_command_keys_reach_the_session(live: Path, key: str, kind: str) -> None:
    async with running_app(live, mode="live") as (_, pilot):
        await pilot.press(key)
        await until(pilot, lambda: bool(commands(live)))

    assert commands(live)[0].kind == kind


async def test_stop_asks_first(live: Path) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        await pilot.press("x")
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("n")
        assert commands(live) == []

        await pilot.press("x", "y")
        await until(pilot, lambda: bool(commands(live)))

    assert commands(live)[0].kind == "stop"


async def test_mark_sends_its_text(live: Path) -> None:
    async with running_app(live, mode="live") as (_, pilot):
        await pilot.press("m", *"warm", "enter")
        await until(pilot, lambda: bool(commands(live)))

    assert (commands(live)[0].kind, commands(live)[0].args) == ("mark", {"text": "warm"})


async def test_mark_of_a_finished_session_is_kept_beside_it(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.trtune"
    shutil.copy(sample, path)
    before = path.read_bytes()

    async with running_app(path) as (app, pilot):
        await sought(app, pilot, "home", "shift+right")
        await pilot.press("m", *"odd", "enter")
        await until(pilot, lambda: app.snapshot is not None and any(e.text == "odd" for e in app.snapshot.events))
        await sought(app, pilot, "home")

        assert await sought(app, pilot, "right_parenthesis") == pytest.approx(60)
        assert await sought(app, pilot, "right_parenthesis") == pytest.approx(298)
        assert await sought(app, pilot, "left_parenthesis") == pytest.approx(60)
    assert path.read_bytes() == before


async def test_note_that_cannot_be_kept_is_told(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.trtune"
    shutil.copy(sample, path)
    path.with_name("copy.trtune.notes").mkdir()

    async with running_app(path) as (app, pilot):
        await pilot.press("m", *"odd", "enter")
        await until(pilot, lambda: "the note cannot be kept" in shown(app))


async def test_range_is_chosen_by_its_two_ends(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        await sought(app, pilot, "home", "shift+right")
        await pilot.press("a")
        await sought(app, pilot, "shift+right")
        await pilot.press("a")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.window_ns == (60 * S, 120 * S))

        await pilot.press("a")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.window_ns != (60 * S, 120 * S))


async def test_enqueue_sends_checked_params(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune") as (app, pilot):
        await pilot.press("e")
        assert isinstance(app.screen, FormScreen)
        batch = app.screen.query_one("#field0", Input)
        batch.value = "99999"
        await pilot.press("enter")
        assert "max_batch_size: '99999' is not allowed" in shown(app)

        batch.value = "640"
        await pilot.press("enter")
        await until(pilot, lambda: bool(commands(live)))

    sent = commands(live)[0]
    assert sent.kind == "enqueue"
    assert sent.args["params"]["max_batch_size"] == 640
    assert sent.args["params"]["tensor_parallel_size"] == 4


async def sent(app: TrtuneApp, pilot: Pilot[AppResult], path: Path) -> Command:
    await until(pilot, lambda: bool(commands(path)))
    return commands(path)[-1]


async def test_ranges_are_edited_in_words_and_only_changes_are_sent(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune") as (app, pilot):
        await pilot.press("r")
        batch, capacity = app.screen.query_one("#field0", Input), app.screen.query_one("#field1", Input)
        assert batch.value == "1..2048 log"
        capacity.value = "2..8"
        await pilot.press("enter")
        assert "takes choices" in shown(app)

        batch.value, capacity.value = "256..1024 log", "4"
        await pilot.press("enter")
        await until(pilot, lambda: len(commands(live)) == 2)

    told = {command.args["knob"]: command.args["domain"] for command in commands(live)}
    assert told == {"max_batch_size": {"low": 256, "high": 1024, "log": True}, "tensor_parallel_size": 4}


async def test_objective_is_checked_and_sent(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune") as (app, pilot):
        await pilot.press("o")
        limits = app.screen.query_one("#field4", Input)
        assert limits.value == "ttft:p99:<=:500"
        limits.value = "ttft under 500"
        await pilot.press("enter")
        assert "write metric:stat:op:value" in shown(app)

        limits.value = "ttft:p99:<=:300, tpot:p99:<=:25"
        await pilot.press("enter")
        command = await sent(app, pilot, live)

    assert (command.kind, command.args["slos"]) == ("objective", ["ttft:p99:<=:300", "tpot:p99:<=:25"])
    assert (command.args["metric"], command.args["direction"]) == ("output_token_throughput", "maximize")


async def test_objective_takes_a_preset_that_is_known(live: Path) -> None:
    door = FrontDoor(presets=(("interactive", "for readers"),))
    async with running_app(live, mode="live", screen="tune", door=door) as (app, pilot):
        await pilot.press("o")
        app.screen.query_one("#field0", Input).value = "fastest"
        await pilot.press("enter")
        assert "only interactive" in shown(app)
        app.screen.query_one("#field0", Input).value = "interactive"
        await pilot.press("enter")

        assert (await sent(app, pilot, live)).args == {"preset": "interactive"}


async def test_waiting_configuration_is_taken_out_of_the_queue(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune") as (app, pilot):
        await pilot.press("u")
        assert "2  the search's next" in shown(app)
        await pilot.press("down", "enter")

        command = await sent(app, pilot, live)
        assert (command.kind, command.args) == ("dequeue", {"place": 1})


async def test_proof_asks_first(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune") as (app, pilot):
        await pilot.press("P", "n")
        assert commands(live) == []
        await pilot.press("P", "y")

        assert (await sent(app, pilot, live)).kind == "prove"


async def test_profile_starts_and_stops(live: Path) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        await pilot.press("T")
        assert (await sent(app, pilot, live)).args == {"action": "start"}
        with sqlite3.connect(live) as connection:
            connection.execute("UPDATE command SET state = 'done', reply = 'begun'")
        connection.close()
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.commands[-1].state == "done")
        await pilot.press("T")
        await until(pilot, lambda: len(commands(live)) == 2)

    assert commands(live)[1].args == {"action": "stop"}


async def test_best_is_exported_shown_copied_and_written(sample: Path, tmp_path: Path) -> None:
    forms = (("config", "the file"), ("command", "the words"))
    door = FrontDoor(export_forms=lambda: forms, export=lambda _path, trial, form: f"{form} of {trial} \x1b[31m")
    target = tmp_path / "best.yaml"

    async with running_app(sample, screen="tune", door=door) as (app, pilot):
        await pilot.press("E")
        await until(pilot, lambda: "Export the best" in shown(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: "command of None" in shown(app))
        await pilot.press("y")
        assert app.clipboard == "command of None \x1b[31m"
        await pilot.press("w", *str(target), "enter")
        await until(pilot, target.is_file)
        assert target.read_text() == "command of None \x1b[31m"

        await pilot.press("w", *str(target), "enter")
        await until(pilot, lambda: "not written" in shown(app))


async def test_export_that_fails_says_why(sample: Path) -> None:
    def fail(_path: Path, _trial: int | None, _form: str) -> str:
        raise ValueError("no trial meets every SLO")

    door = FrontDoor(export_forms=lambda: (("config", "the file"),), export=fail)
    async with running_app(sample, screen="tune", door=door) as (app, pilot):
        await pilot.press("E")
        await until(pilot, lambda: "Export the best" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: "no trial meets every SLO" in shown(app))


async def test_value_is_copied_for_the_terminal(sample: Path) -> None:
    async with running_app(sample, screen="tune") as (app, pilot):
        await pilot.press("y", "enter")

    assert app.clipboard == str(sample)


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


async def test_refused_command_is_told(live: Path) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: bool(commands(live)))
        with sqlite3.connect(live) as connection:
            connection.execute("UPDATE command SET state = 'refused', reply = 'already stopping'")
        connection.close()

        await until(pilot, lambda: "already stopping" in shown(app))


async def test_read_only_screen_sends_nothing(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune", read_only=True) as (app, pilot):
        await pilot.press("p", "k", "x", "e", "r", "o", "u", "P", "T")

        assert not isinstance(app.screen, ConfirmScreen | FormScreen)
    assert commands(live) == []


async def test_q_leaves_a_finished_session_at_once(sample: Path) -> None:
    async with running_app(sample) as (app, pilot):
        await pilot.press("q")

    assert app.return_value == AppResult("quit", sample)


@pytest.mark.parametrize(("key", "action"), [("d", "detach"), ("s", "stop")])
async def test_q_asks_whether_the_work_goes_on(live: Path, key: str, action: str) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        await pilot.press("q")
        assert isinstance(app.screen, LeaveScreen)
        await pilot.press(key)
        await pilot.pause()

    assert app.return_value is not None
    assert app.return_value.action == action
    assert commands(live) == []


async def test_escape_stays(live: Path) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        await pilot.press("q", "escape")

        assert app.return_value is None
        assert app.current_mode == "live"
        assert not isinstance(app.screen, LeaveScreen)


async def test_ctrl_c_asks_like_q(live: Path) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        await pilot.press("ctrl+c")

        assert isinstance(app.screen, LeaveScreen)


async def test_detach_leaves_at_once(live: Path) -> None:
    async with running_app(live, mode="live") as (app, pilot):
        await pilot.press("d")
        await pilot.pause()

    assert app.return_value == AppResult("detach", live)


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

    assert {"go to", "follow", "whole session", "mark", "live", "tune"} <= titles


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
        await pilot.press("enter")
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
