"""Whatever a session of a stranger, or a server, says: no escape sequence of it reaches the terminal."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest

from engines.errors import EngineError
from sessions.recorder import Recorder
from trtune.cli import run
from trtune.door import make_door
from trtune.errors import error_line

DEMO = Path(__file__).parents[1] / "data" / "demo.trtune"
ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b2J"


def with_escapes(value: Any) -> Any:
    if isinstance(value, str):
        return value + ESCAPES
    if isinstance(value, list):
        return [with_escapes(inner) for inner in value]
    return {name: with_escapes(inner) for name, inner in value.items()} if isinstance(value, dict) else value


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A session with escape sequences behind every text that its facts hold, alone in the sessions folder."""
    monkeypatch.setenv("TRTUNE_SESSIONS", str(tmp_path))
    path = Path(shutil.copy(DEMO, tmp_path / "hostile.trtune"))
    with sqlite3.connect(path) as database:
        for key, value in database.execute("SELECT key, value FROM meta WHERE key != 'kind'").fetchall():
            told = orjson.dumps(with_escapes(orjson.loads(value))).decode()
            database.execute("UPDATE meta SET value = ? WHERE key = ?", (told, key))
        database.execute("UPDATE worker SET text = text || ?", (ESCAPES,))
    database.close()
    return path


@pytest.mark.parametrize(
    "words", [("replay", "{path}", "--headless"), ("sessions",), ("tune", "--from", "{path}"), ("export", "{path}")]
)
def test_a_hostile_session_is_shown_without_its_escapes(
    hostile: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run([word.format(path=hostile) for word in words])

    told = capsys.readouterr()
    shown = told.out + told.err
    assert "hostile.trtune" in shown
    assert not set(shown) & set("\x1b\x07\x9b")


def test_an_error_that_quotes_a_server_is_one_harmless_line() -> None:
    assert error_line(EngineError(f"it answers\nno{ESCAPES}")) == "it answers no\ufffd2J"


def test_an_error_of_the_system_names_the_file_and_the_reason(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "nowhere" / "file").open("x")

    assert error_line(caught.value) == f"{tmp_path}/nowhere/file: No such file or directory"


def test_a_fault_over_a_strange_session_is_told_to_the_screen_as_one_line(tmp_path: Path) -> None:
    path = tmp_path / "strange.trtune"
    plan = {"engine": {"name": "trtllm", "model": "m"}}
    recorder = Recorder.create(path, {"kind": "tune", "plan": plan, "objective": "no table", "engine": []})
    recorder.end_trial(recorder.start_trial("baseline", {}), "complete", score=1.0, feasible=True)
    recorder.close()
    export = make_door().export
    assert export is not None

    with pytest.raises(ValueError, match=r"^a fault in trtune: \w+: "):
        export(path, 0, "config")
