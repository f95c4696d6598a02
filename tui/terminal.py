"""What the terminal can do, asked before the screen starts. Needs no Textual, so that the command line may ask cheaply."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FPS = 4.0
SSH_FPS = 2.0


@dataclass(frozen=True, slots=True)
class TerminalSettings:
    """How the screen should behave on this terminal.

    Attributes:
        glyphs: Name of the glyph set.
        fps: Most refreshes a second.
        animation: Whether anything may move by itself.
    """

    glyphs: str = "braille"
    fps: float = FPS
    animation: bool = True


def in_browser(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the screen is shown in a browser, by textual-serve."""
    environ = os.environ if environ is None else environ
    return environ.get("TEXTUAL_DRIVER", "").endswith("web_driver:WebDriver")


def terminal_problem(environ: Mapping[str, str] | None = None) -> str | None:
    """Why no screen can be shown here, in one line; None if it can.

    Textual itself starts on TERM=dumb and floods it with codes, hence the check.
    """
    environ = os.environ if environ is None else environ
    if in_browser(environ):
        return None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "not a terminal: printing lines instead of a screen"
    if environ.get("TERM", "") == "dumb":
        return "TERM=dumb can show no screen: printing lines instead"
    return None


def terminal_settings(
    environ: Mapping[str, str] | None = None, *, encoding: str | None = None, ascii_only: bool = False
) -> TerminalSettings:
    """Settings that suit the terminal: plain characters without UTF-8, fewer frames and no animation over SSH.

    Args:
        environ: Environment; that of the process by default.
        encoding: Encoding of the stream Textual writes to; that of stderr by default.
        ascii_only: Whether the user asked for plain characters.
    """
    environ = os.environ if environ is None else environ
    encoding = (encoding or getattr(sys.__stderr__, "encoding", None) or "ascii").lower().replace("-", "")
    plain = ascii_only or (encoding != "utf8" and not in_browser(environ))
    remote = bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))
    # The Linux console's fonts have blocks but no braille.
    glyphs = "ascii" if plain else "block" if environ.get("TERM") == "linux" else "braille"
    return TerminalSettings(glyphs, SSH_FPS if remote else FPS, not remote)
