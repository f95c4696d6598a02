"""Dots in text cells, in layers: every layer has an ink, and a cell has the ink of the first layer that touches it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.glyphs import Glyphs
    from tui.widgets.lines import Piece, Row


def dots(from_y: int, to_y: int) -> int:
    """The bits of a span of dots in a column; dot 0 is at the bottom. An empty span is no dot."""
    return (1 << to_y + 1) - (1 << from_y) if to_y >= from_y else 0


class Canvas:
    """A field of text cells to draw on.

    Args:
        cells_x: Width in cells.
        cells_y: Height in cells.
        glyphs: Characters to draw with.
    """

    def __init__(self, cells_x: int, cells_y: int, glyphs: Glyphs) -> None:
        self._glyphs = glyphs
        self._cells_x = cells_x
        self._cells_y = cells_y
        self._layers: list[tuple[str, list[int]]] = []
        self._lines: dict[int, dict[int, tuple[str, str]]] = {}
        self._signs: dict[int, dict[int, tuple[str, str]]] = {}
        self.dots_x = cells_x * glyphs.dots_x
        """Width in dots."""
        self.dots_y = cells_y * glyphs.dots_y
        """Height in dots."""

    def layer(self, ink: str) -> list[int]:
        """A new layer below those there are: one number per dot column, whose bits are its dots (see `dots`)."""
        columns = [0] * self.dots_x
        self._layers.append((ink, columns))
        return columns

    def row_line(self, height: int, text: str, ink: str) -> None:
        """A line across, at a height in dots; dots cover it."""
        line = self._lines.setdefault(self._cell_y(height), {})
        for cell_x in range(self._cells_x):
            line.setdefault(cell_x, (text, ink))

    def column_line(self, x: int, text: str, ink: str) -> None:
        """A line down, at a dot column; dots cover it."""
        for cell_y in range(self._cells_y):
            self._lines.setdefault(cell_y, {}).setdefault(x // self._glyphs.dots_x, (text, ink))

    def sign(self, cell_x: int, height: int, text: str, ink: str) -> None:
        """One character over whatever is there."""
        if 0 <= cell_x < self._cells_x:
            self._signs.setdefault(self._cell_y(height), {})[cell_x] = text, ink

    def rows(self) -> list[Row]:
        """The cells as rows of pieces, neighbours of one ink joined."""
        merged = [0] * self.dots_x
        for _, columns in self._layers:
            merged = [total | column for total, column in zip(merged, columns, strict=True)]
        return [self._row(y, merged) for y in range(self._cells_y)]

    def _cell_y(self, height: int) -> int:
        return (self.dots_y - 1 - max(0, min(height, self.dots_y - 1))) // self._glyphs.dots_y

    def _row(self, y: int, merged: list[int]) -> Row:
        across, down = self._glyphs.dots_x, self._glyphs.dots_y
        shift = (self._cells_y - 1 - y) * down
        mask = (1 << down) - 1
        chars = _characters(self._glyphs)
        signs, lines = self._signs.get(y, {}), self._lines.get(y, {})
        only_ink = self._layers[0][0] if len(self._layers) == 1 else None
        pieces: list[Piece] = []
        run, run_ink = "", ""
        for x in range(self._cells_x):
            first = x * across
            bits = merged[first] >> shift & mask
            if across == 2:
                bits |= (merged[first + 1] >> shift & mask) << down
            if x in signs:
                char, ink = signs[x]
            elif bits:
                char, ink = chars[bits], only_ink or self._ink(first, across, shift, mask)
            elif x in lines:
                char, ink = lines[x]
            else:
                char, ink = " ", run_ink
            if ink != run_ink:
                if run:
                    pieces.append((run, run_ink))
                run, run_ink = "", ink
            run += char
        pieces.append((run, run_ink))
        return tuple(pieces)

    def _ink(self, first: int, across: int, shift: int, mask: int) -> str:
        for ink, columns in self._layers:
            if columns[first] >> shift & mask or (across == 2 and columns[first + 1] >> shift & mask):
                return ink
        return ""


@lru_cache(maxsize=8)
def _characters(glyphs: Glyphs) -> tuple[str, ...]:
    """The character of a cell by its dots: those of the left column from the bottom up, then those of the right one."""
    across, down = glyphs.dots_x, glyphs.dots_y
    found = []
    for bits in range(1 << across * down):
        mask = 0
        for place in range(across * down):
            if bits >> place & 1:
                column, height = divmod(place, down)
                mask |= 1 << (down - 1 - height) * across + column
        found.append(glyphs.cells[mask])
    return tuple(found)
