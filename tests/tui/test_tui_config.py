"""The user's own settings: read, applied, and every mistake in them told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tui.screen_helpers import running_app, shown, until
from tui.all_keys import all_binding_ids
from tui.config import ScreenConfig, read_config
from tui.theme import THEMES

if TYPE_CHECKING:
    from pathlib import Path


def written(path: Path, text: str) -> ScreenConfig:
    file = path / "screen.toml"
    file.write_text(text, encoding="utf-8")
    return read_config(file)


def test_file_says_theme_rate_and_keys(tmp_path: Path) -> None:
    config = written(tmp_path, 'theme = "trtune-light"\nfps = 2\nascii = true\nmouse = false\n[keys]\npause = "f5"\n')

    assert config == ScreenConfig("trtune-light", 2.0, True, False, {"pause": "f5"})


def test_missing_file_says_nothing(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none.toml") == ScreenConfig()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("theme = 3", "must be a name"),
        ("fps = 0", "fps = 0 must be a number from 0.2 to 20"),
        ('ascii = "yes"', "ascii = 'yes' must be true or false"),
        ("them = 'x'", "did you mean theme?"),
        ("[keys]\npause = 3", "keys.pause = 3"),
        ("not toml", "screen.toml"),
    ],
)
def test_mistake_is_told_and_the_rest_counts(tmp_path: Path, text: str, told: str) -> None:
    config = written(tmp_path, text)

    assert told in config.problems[0]
    assert config.theme == ""


async def test_keys_can_be_changed_and_unknown_ones_are_told(sample: Path) -> None:
    config = ScreenConfig(keys={"whole session": "f6", "pawse": "f7"}, theme="trtune-contrast")

    async with running_app(sample, config=config) as (app, pilot):
        assert app.theme == "trtune-contrast"
        assert "did you mean pause?" in shown(app)
        await pilot.press("f6")
        await until(pilot, lambda: app.request.window_ns == 0)
        await pilot.press("Z")
        await pilot.pause()
        assert app.request.window_ns == 0


async def test_a_key_given_twice_is_told(sample: Path) -> None:
    async with running_app(sample, config=ScreenConfig(keys={"mark": "g"})) as (app, pilot):
        await until(pilot, lambda: "g is mark now: go-to has no key" in shown(app))
        await pilot.press("g")

        assert "kept beside the session" in shown(app)


def test_every_shown_word_is_a_name_for_keys() -> None:
    assert {"pause", "whole-session", "go-to", "ranges", "objective", "live", "compare"} <= all_binding_ids()


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
async def test_every_theme_can_be_shown(sample: Path, theme: object) -> None:
    name = getattr(theme, "name", "")
    async with running_app(sample, size=(80, 24), config=ScreenConfig(theme=name)) as (app, _):
        assert app.theme == name
        assert "util %" in shown(app)
