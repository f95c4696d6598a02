"""The characters that draw bars and plots, in three sets: braille, block and ASCII."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def _braille() -> tuple[str, ...]:
    # Cell bits run row by row, left to right; Unicode numbers its dots by column, with the fourth row last.
    unicode_bits = (0x01, 0x08, 0x02, 0x10, 0x04, 0x20, 0x40, 0x80)
    cells = [
        chr(0x2800 + sum(bit for place, bit in enumerate(unicode_bits) if mask >> place & 1)) for mask in range(256)
    ]
    cells[0] = " "  # U+2800 costs three bytes, a space one
    return tuple(cells)


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of characters.

    Attributes:
        name: `braille`, `block` or `ascii`.
        dots_x: Dots of a plot cell, across.
        dots_y: Dots of a plot cell, down.
        cells: Plot cell for each mask of dots (row by row from the top left, lowest bit first).
        bar: Fillings of a bar's last cell, from empty to full.
        steps: Heights of a small history, from nothing to full.
        rule: Horizontal line.
        limit: Dashed line of a limit in a plot.
        tick: Vertical mark in a plot.
        play: Sign of a clock that runs.
        pause: Sign of a clock that stands.
        star: Sign of the best.
        note: Sign of a mark.
        here: Sign of the moment looked at.
        hatch: Filling of a span of starting and stopping.
        up: Arrow up.
        down: Arrow down.
        dot: Separator.
        dash: Stands for a value that is not known.
    """

    name: str
    dots_x: int
    dots_y: int
    cells: tuple[str, ...]
    bar: str
    steps: str
    rule: str
    limit: str
    tick: str
    play: str
    pause: str
    star: str
    note: str
    here: str
    hatch: str
    up: str
    down: str
    dot: str
    dash: str


BRAILLE = Glyphs(
    name="braille",
    dots_x=2,
    dots_y=4,
    cells=_braille(),
    bar=" ▏▎▍▌▋▊▉█",
    steps=" ▁▂▃▄▅▆▇█",
    rule="─",
    limit="╌",
    tick="┊",
    play="▶",
    pause="‖",
    star="★",
    note="^",
    here="▼",
    hatch="░",
    up="↑",
    down="↓",
    dot="·",
    dash="–",
)

BLOCK = Glyphs(
    name="block",
    dots_x=2,
    dots_y=2,
    cells=tuple(" ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"),
    bar=" ▏▎▍▌▋▊▉█",
    steps=" ▁▂▃▄▅▆▇█",
    rule="─",
    limit="╌",
    tick="│",
    play="►",
    pause="‖",
    star="*",
    note="^",
    here="▼",
    hatch="░",
    up="↑",
    down="↓",
    dot="·",
    dash="–",
)

ASCII = Glyphs(
    name="ascii",
    dots_x=1,
    dots_y=2,
    cells=(" ", "'", ".", ":"),
    bar=" -=#",
    steps=" .:-=+*#",
    rule="-",
    limit="-",
    tick="|",
    play=">",
    pause="=",
    star="*",
    note="^",
    here="V",
    hatch="/",
    up="^",
    down="v",
    dot="|",
    dash="-",
)

GLYPH_SETS = {glyphs.name: glyphs for glyphs in (BRAILLE, BLOCK, ASCII)}


@lru_cache(maxsize=4096)
def bar_text(glyphs: Glyphs, eighths: int, width: int) -> str:
    """A horizontal bar of `width` cells, filled to `eighths` of a cell."""
    full, rest = divmod(max(0, min(eighths, width * 8)), 8)
    text = glyphs.bar[-1] * full
    if rest and full < width:
        text += glyphs.bar[rest * (len(glyphs.bar) - 1) // 8]
    return text.ljust(width)


def bar(glyphs: Glyphs, ratio: float, width: int) -> str:
    """A horizontal bar of `width` cells, filled to `ratio` (0..1; NaN is empty)."""
    if ratio != ratio or width <= 0:
        return " " * max(0, width)
    return bar_text(glyphs, round(min(1.0, max(0.0, ratio)) * width * 8), width)


def history(glyphs: Glyphs, ratios: Iterable[float]) -> str:
    """A small history, one cell for each ratio: at its height from 0 to 1; NaN and what is below 0 are blanks."""
    steps, top = glyphs.steps, len(glyphs.steps) - 1
    text = ""
    for ratio in ratios:
        if ratio > 0:
            text += steps[top if ratio >= 1 else round(ratio * top) or 1]
        else:
            text += steps[0] if ratio == 0 else " "
    return text
