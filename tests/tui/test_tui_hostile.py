"""Texts and values from a stranger's file: shown harmlessly, or refused in one line, and never a crash."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from sessions.records import FailureRecord
from tests.tui.sample_session import META, PlannedTrial, hand_recorder, write_sample_session
from tests.tui.screen_helpers import running_app, shown, until
from tui.session_list import list_sessions

if TYPE_CHECKING:
    from pathlib import Path

from tui.app import ScreenName

ESCAPES = "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J"
MARKUP = "[bold red]not[/] [@click=app.quit]markup[/]"
WIDE = "模型名称 👩‍👩‍👧 e\u0301\u0302\u0303"
DIRECTION = "\u202eevil\u2066"
NASTY = f"{ESCAPES}{MARKUP}{WIDE}{DIRECTION}"

HOSTILE_META = {
    "name": NASTY,
    "kind": NASTY,
    "engine": {"title": NASTY, "model": NASTY, "url": NASTY, "simulated": True},
    "objective": {
        "label": NASTY,
        "unit": NASTY,
        "metric": "ttft",
        "stat": "p99",
        "slos": [{"value": 1, "label": NASTY}],
    },
    "knobs": [{"name": NASTY, "kind": "choice", "choices": [NASTY], "default": NASTY}],
    "workload": {"label": NASTY},
    "gpu_note": NASTY,
}
FAILURE = FailureRecord(NASTY, NASTY, NASTY, (NASTY,))
TRIALS = (
    PlannedTrial("baseline", "complete", {NASTY: NASTY}, 100.0, 400.0, 10.0, 20, (16.0,)),
    PlannedTrial(NASTY, NASTY, {NASTY: NASTY}, None, 400.0, 10.0, 20, (16.0,)),
    PlannedTrial("search", "failed", {NASTY: NASTY}, None, 1.0, 1.0, 18, (), FAILURE),
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "[red]x\x1b[31m.trtune"
    return write_sample_session(path, meta=HOSTILE_META, trials=TRIALS)


@pytest.mark.parametrize(
    ("screen", "size"),
    [("live", (200, 60)), ("tune", (80, 24)), ("tune", (200, 60)), ("log", (80, 24)), ("sessions", (80, 24))],
)
async def test_no_screen_lets_them_through(hostile: Path, screen: ScreenName, size: tuple[int, int]) -> None:
    async with running_app(hostile, size=size) as (app, pilot):
        app.action_view(screen)
        await pilot.pause(0.3)
        text = shown(app)
        widths = {strip.cell_length for strip in app.screen._compositor.render_strips()}

    assert not {"\x1b", "\x07", "\u202e", "\u2066"} & set(text)
    assert "[bold red]" in text or "[bold" in text or screen == "log"
    assert widths == {size[0]}


async def test_log_lines_are_shown_as_they_are_not_as_markup(tmp_path: Path) -> None:
    recorder, _ = hand_recorder(tmp_path / "log.trtune", META)
    recorder.log("server", "info", f"{ESCAPES}{MARKUP}")
    recorder.log("server", "info", "x" * 100_000)
    recorder.set_worker("done", "over")
    recorder.close()

    async with running_app(recorder.path, screen="log") as (app, pilot):
        await until(pilot, lambda: MARKUP in shown(app))

        assert "red[bold red]" in shown(app)


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE trial SET score = 'many' WHERE number = 3",
        "UPDATE trial SET start_ns = 'soon' WHERE number = 3",
        "UPDATE trial SET params = '[1, 2]' WHERE number = 3",
        "UPDATE trial SET result = '{\"ttft\": 3}' WHERE number = 3",
        "UPDATE trial SET result = 'not json' WHERE number = 3",
        "UPDATE source SET format = 'P' WHERE id = 1",
        "UPDATE sample SET data = x'00' WHERE source = 1",
        "UPDATE level SET value = 'x', notes = '3'",
        "UPDATE phase SET name = x'ff00', start_ns = 'x'",
        "UPDATE event SET t_ns = 'x'",
        "UPDATE log SET t_ns = 'x'",
        "UPDATE worker SET heartbeat_utc_ns = 'x', state = 'running'",
        "UPDATE meta SET value = '{}' WHERE key = 'objective'",
        "DELETE FROM meta",
        "DROP TABLE trial",
    ],
)
async def test_spoilt_file_is_shown_or_refused_in_words(sample: Path, tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "spoilt.trtune"
    shutil.copy(sample, path)
    with sqlite3.connect(path) as connection:
        connection.execute(spoil)
    connection.close()

    async with running_app(None, sessions_dir=tmp_path, size=(100, 24)) as (app, pilot):
        app.open_session(path, "replay")
        app.action_view("live")
        await until(pilot, lambda: app.snapshot is not None)
        for name in ("tune", "log", "live"):
            app.action_view(name)
            await pilot.pause()

        assert app.snapshot is not None
        refused = app.snapshot.state.word == "UNREADABLE"
        assert ("UNREADABLE" in shown(app)) == refused
        assert bool(app.snapshot.trials) != refused or "trial" in spoil
        await pilot.press("q")
    assert app.return_value is not None


async def test_paste_of_a_megabyte_into_a_prompt_is_cut(sample: Path) -> None:
    from textual import events
    from textual.widgets import Input

    async with running_app(sample) as (app, pilot):
        await pilot.press("g")
        field = app.screen.query_one(Input)
        field.post_message(events.Paste("9" * 1_000_000))
        await pilot.press("enter")
        await pilot.pause()

        assert len(field.value) <= 400
        assert app.is_running


def test_a_folder_of_sessions_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    (entry,) = list_sessions(tmp_path / "file")

    assert entry.error == f"{tmp_path}/file: Not a directory"
    assert list_sessions(tmp_path / "nowhere") == []
