"""Replaces what a terminal without UTF-8 cannot show; a character takes as many cells as before, so that nothing moves."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.segment import Segment
from textual.filter import LineFilter

if TYPE_CHECKING:
    from textual.color import Color

_ALIKE = {
    "–": "-",
    "—": "-",
    "─": "-",
    "━": "-",
    "│": "|",
    "▌": "|",
    "…": ".",
    "·": "|",
    "°": " ",
    "←": "<",
    "→": ">",
    "↑": "^",
    "↓": "v",
    "µ": "u",
    "×": "x",
    "«": '"',
    "»": '"',
}


class AsciiFilter(LineFilter):
    """Lets only ASCII through to the terminal."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments with every other character replaced."""
        return [
            segment if segment.text.isascii() else Segment(plain(segment.text), segment.style, segment.control)
            for segment in segments
        ]


@lru_cache(maxsize=1024)
def plain(text: str) -> str:
    """A text in ASCII, as many cells wide as before."""
    return "".join(char if char.isascii() else _ALIKE.get(char, "?" * cell_len(char)) for char in text)
