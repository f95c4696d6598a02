"""The wizard: from what is on this host to work that has begun."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from textual.widgets import Input

from tests.tui.sample_session import write_sample_session
from tests.tui.screen_helpers import revive, running_app, shown, until
from tui.front_door import Findings, FoundEngine, FoundServer, FrontDoor, Wish
from tui.screens.leave import LeaveScreen
from tui.screens.setup import PlanScreen, SetupScreen

if TYPE_CHECKING:
    from pathlib import Path

FINDINGS = Findings(
    servers=(FoundServer("http://127.0.0.1:8000", "trtllm", "TensorRT-LLM", "llama", "process 12, trtllm-serve"),),
    gpus=("0: NVIDIA H200, 141 GiB",),
    models=(("meta-llama/Llama-3.1-8B", "Hugging Face's cache"),),
    engines=(
        FoundEngine("vllm", "vLLM", True, "vllm 0.24 is installed"),
        FoundEngine("sglang", "SGLang", False, "pip install sglang"),
    ),
    notes=("containers: permission denied \x1b[31m",),
)


def draft(wish: Wish) -> str:
    """A plan, unless the prompt length is no number."""
    if not wish.isl.isdigit():
        raise ValueError(f"workload.isl = {wish.isl!r} must be an integer")
    return f'kind = "{wish.work}"\nmodel = "{wish.model}"\nisl = {wish.isl}\n'


async def test_what_is_here_is_listed_and_can_be_begun(tmp_path: Path) -> None:
    session = write_sample_session(tmp_path / "begun.trtune", over=False)
    revive(session)
    begun: list[str] = []

    def begin(plan: str) -> Path:
        begun.append(plan)
        return session

    door = FrontDoor(find=lambda: FINDINGS, draft=draft, begin=begin)
    async with running_app(None, sessions_dir=tmp_path / "none", door=door) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: "measure it" in shown(app))
        assert "⏎ choose" in shown(app)
        for told in (
            "TensorRT-LLM  llama  (process 12",
            "NVIDIA H200",
            "meta-llama/Llama-3.1-8B",
            "pip install sglang",
        ):
            assert told in shown(app)
        assert "tune         a vLLM server" in shown(app)
        assert "\x1b" not in shown(app)

        await pilot.press("down", "enter")
        app.screen.query_one("#field1", Input).value = "long"
        await pilot.press("enter")
        await until(pilot, lambda: "workload.isl = 'long' must be an integer" in shown(app))
        app.screen.query_one("#field1", Input).value = "2048"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        assert "isl = 2048" in shown(app)

        await pilot.press("w")
        app.screen.query_one(Input).value = str(tmp_path / "plan.toml")
        await pilot.press("enter")
        await until(pilot, (tmp_path / "plan.toml").is_file)
        await pilot.press("escape")
        assert app.screen.query_one("#field1", Input).value == "2048"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("enter")
        await until(pilot, lambda: app.session == session and app.current_mode == "live")

    assert begun == ['kind = "bench"\nmodel = "llama"\nisl = 2048\n']


async def test_the_screen_is_not_left_while_work_begins_of_which_nobody_would_be_told(tmp_path: Path) -> None:
    session = write_sample_session(tmp_path / "begun.trtune", over=False)
    revive(session)
    may_begin = threading.Event()

    def begin(_plan: str) -> Path:
        may_begin.wait(60)
        return session

    door = FrontDoor(find=lambda: FINDINGS, draft=draft, begin=begin)
    async with running_app(None, sessions_dir=tmp_path / "none", door=door) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: "demo" in shown(app))
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("enter")
        await until(pilot, lambda: "starting ..." in shown(app))
        await pilot.press("q", "escape")
        assert isinstance(app.screen, PlanScreen)
        may_begin.set()
        await until(pilot, lambda: app.session == session)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, LeaveScreen))


async def test_work_that_cannot_begin_says_why(tmp_path: Path) -> None:
    def begin(_plan: str) -> Path:
        raise ValueError("the worker ended at once")

    door = FrontDoor(find=lambda: FINDINGS, draft=draft, begin=begin)
    async with running_app(None, sessions_dir=tmp_path, door=door) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: "demo" in shown(app))
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("enter")
        await until(pilot, lambda: "the worker ended at once" in shown(app))


async def test_wizard_of_a_screen_that_was_lent_nothing_says_so(tmp_path: Path) -> None:
    async with running_app(None, sessions_dir=tmp_path) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: "none that can be read here" in shown(app))
        assert isinstance(app.screen, SetupScreen)
        await pilot.press("enter")
        await until(pilot, lambda: "without the program" in shown(app))
        await pilot.press("escape")
        assert not isinstance(app.screen, SetupScreen)
