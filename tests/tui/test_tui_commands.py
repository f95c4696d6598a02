"""Every key by which one asks something of the worker, takes a result along, or leaves; on real files."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from textual.events import Key
from textual.widgets import Input

from sessions.reader import SessionReader
from tests.tui.screen_helpers import running_app, shown, sought, until
from tui.app import AppResult
from tui.front_door import FrontDoor
from tui.screens.confirm import ConfirmScreen
from tui.screens.form import FormScreen
from tui.screens.leave import LeaveScreen

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from sessions.records import Command
    from tui.app import TrtuneApp


def commands(path: Path) -> list[Command]:
    with SessionReader(path) as reader:
        return list(reader.commands())


async def sent(app: TrtuneApp, pilot: Pilot[AppResult], path: Path) -> Command:
    await until(pilot, lambda: bool(commands(path)))
    return commands(path)[-1]


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

    assert (command.kind, command.args) == ("objective", {"slos": ["ttft:p99:<=:300", "tpot:p99:<=:25"]})


async def test_new_metric_takes_its_usual_statistic_and_direction(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune") as (app, pilot):
        await pilot.press("o")
        app.screen.query_one("#field1", Input).value = "ttft"
        await pilot.press("enter")

        assert (await sent(app, pilot, live)).args == {"metric": "ttft", "slos": ["ttft:p99:<=:500"]}


async def test_keys_that_come_at_once_reach_the_value_they_were_meant_for(live: Path) -> None:
    async with running_app(live, mode="live", screen="tune") as (app, pilot):
        await pilot.press("o")
        for name, character in (("down", None), ("t", "t"), ("down", None), ("p", "p")):
            app.post_message(Key(name, character))
        form = app.screen
        await until(pilot, lambda: form.query_one("#field2", Input).value == "p")
        assert [form.query_one(f"#field{place}", Input).value for place in (0, 1)] == ["", "t"]


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


async def written(app: TrtuneApp, pilot: Pilot[AppResult], path: Path) -> None:
    """Ask for what is shown to be written to a file."""
    await pilot.press("w")
    app.screen.query_one(Input).value = str(path)
    await pilot.press("enter")


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
        await written(app, pilot, target)
        await until(pilot, target.is_file)
        assert target.read_text() == "command of None \x1b[31m"

        await written(app, pilot, target)
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
