from __future__ import annotations

import subprocess
import sys

import pytest

from tui.terminal import SSH_FPS, terminal_problem, terminal_settings


class _Tty:
    def isatty(self) -> bool:
        return True


def pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Tty())
    monkeypatch.setattr(sys, "stdout", _Tty())


def test_pipe_is_no_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tui.terminal import terminal_problem; print(terminal_problem())"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "not a terminal" in done.stdout


def test_dumb_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_terminal(monkeypatch)

    assert "TERM=dumb" in (terminal_problem({"TERM": "dumb"}) or "")


def test_usual_terminal_has_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_terminal(monkeypatch)

    assert terminal_problem({"TERM": "xterm-256color"}) is None


def test_terminal_without_utf8_gets_ascii() -> None:
    assert terminal_settings({}, encoding="ANSI_X3.4-1968").glyphs == "ascii"
    assert terminal_settings({}, encoding="UTF-8").glyphs == "braille"


def test_ascii_can_be_asked_for() -> None:
    assert terminal_settings({}, encoding="utf-8", ascii_only=True).glyphs == "ascii"


def test_linux_console_gets_blocks() -> None:
    assert terminal_settings({"TERM": "linux"}, encoding="utf-8").glyphs == "block"


def test_ssh_gets_fewer_frames_and_no_animation() -> None:
    settings = terminal_settings({"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, encoding="utf-8")

    assert settings.fps == SSH_FPS
    assert not settings.animation


def test_the_screen_loads_no_numbers_and_no_search() -> None:
    heavy = "('numpy', 'pandas', 'optuna', 'aiohttp', 'engines', 'tuner')"
    code = f"import sys, tui.app; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_asking_about_the_terminal_does_not_load_the_screen() -> None:
    code = "import sys, tui.terminal; print([name for name in ('textual', 'rich', 'numpy') if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
