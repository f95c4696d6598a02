"""The base of everything drawn often: a widget that is given rows of coloured text and redraws only those that changed.

Textual's own widgets ask for layout or render every cell anew; eight GPUs drawn with them cost seven times what rows cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.formatting import shorten
from tui.glyphs import BRAILLE, Glyphs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.snapshot import Snapshot

Piece = tuple[str, str]
"""Text and the name of its ink; an empty name is the plain colour."""

Row = tuple[Piece, ...]

INKS = (
    "ok",
    "warn",
    "bad",
    "dim",
    "accent",
    "title",
    "strong",
    "first",
    "second",
    "third",
    "fourth",
    "limit",
    "best",
    "badge",
    "cursor",
    "chosen",
)
"""Names of the colours that mean something."""

INK_CSS = """
.ink--ok { color: $success; }
.ink--warn { color: $warning; text-style: bold; }
.ink--bad { color: $error; text-style: bold; }
.ink--dim { color: $foreground 55%; }
.ink--accent { color: $accent; }
.ink--title { color: $primary; text-style: bold; }
.ink--strong { text-style: bold; }
.ink--first { color: $accent; }
.ink--second { color: $primary; }
.ink--third { color: $secondary; }
.ink--fourth { color: $success; }
.ink--limit { color: $error; }
.ink--best { color: $success; text-style: bold; }
.ink--badge { color: $background; background: $warning; text-style: bold; }
.ink--cursor { color: $accent; text-style: bold; }
.ink--chosen { background: $primary-muted; text-style: bold; }
"""
"""Their values, for the application's style sheet: kept there once, since Textual styles a widget's own component classes anew
whenever its screen comes to the front."""

INK_CLASSES = {f"ink--{name}" for name in INKS}


class LineWidget(Widget):
    """Draws rows made by `rows`; a row that stays the same is not sent to the terminal again."""

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._rows: tuple[Row, ...] = ()
        self._snapshot: Snapshot | None = None
        self._styles_by_ink: dict[str, Style] = {}

    @property
    def glyphs(self) -> Glyphs:
        """The characters this terminal can show."""
        glyphs = getattr(self.app, "glyphs", BRAILLE)
        return glyphs if isinstance(glyphs, Glyphs) else BRAILLE

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """What to draw in a space of `width` by `height` cells."""
        raise NotImplementedError

    def show(self, snapshot: Snapshot) -> None:
        """Draw another snapshot."""
        self._snapshot = snapshot
        self._redraw()

    def _redraw(self) -> None:
        width, height = self.size
        if self._snapshot is None or width <= 0 or height <= 0:
            return
        self._draw(self.rows(self._snapshot, width, height))

    def _draw(self, drawn: Sequence[Row]) -> None:
        """Show rows; those that stayed the same are not sent again."""
        width, height = self.size
        rows = tuple(drawn)
        before = self._rows
        self._rows = rows
        for y in range(min(height, max(len(rows), len(before)))):
            if rows[y : y + 1] != before[y : y + 1]:
                self.refresh(Region(0, y, width, 1))

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._redraw()

    def notify_style_update(self) -> None:
        """Forget the colours of the theme before."""
        self._styles_by_ink.clear()
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """One row, in exactly the width of the widget."""
        width = self.size.width
        row = self._rows[y] if y < len(self._rows) else ()
        segments = [Segment(text, self._style(ink)) for text, ink in row]
        return Strip(segments).adjust_cell_length(width, self._style(""))

    def _style(self, ink: str) -> Style:
        style = self._styles_by_ink.get(ink)
        if style is None:
            style = self._mix(ink) if ink else self.rich_style
            self._styles_by_ink[ink] = style
        return style

    def _mix(self, ink: str) -> Style:
        """An ink on this widget's background."""
        told = self.app.get_component_styles(f"ink--{ink}")
        _, _, background, color = self.colors
        if told.has_rule("background"):
            background += told.background
        foreground = background + (told.color if told.has_rule("color") else color)
        return Style.from_color(foreground.rich_color, background.rich_color) + told.text_style


def row_cells(row: Row) -> int:
    """Terminal cells a row takes."""
    return sum(cell_len(text) for text, _ in row)


def title_row(title: str, width: int, glyphs: Glyphs, *legend: Piece) -> Row:
    """A heading: a title, what its colours mean, and a rule to the right edge."""
    title = shorten(title, width - 1)
    pieces: list[Piece] = [(f"{title} ", "title")]
    room = width - cell_len(title) - 1
    for text, ink in legend:
        cells = cell_len(text) + 1
        if cells > room:
            break
        pieces.append((f"{text} ", ink))
        room -= cells
    pieces.append((glyphs.rule * max(0, room), "dim"))
    return tuple(pieces)


def wrap(line: Row, width: int, indent: int = 2) -> list[Row]:
    """A line as rows of at most `width` cells; what does not fit goes on, indented."""
    rows: list[Row] = []
    row: list[Piece] = []
    room = width
    for text, ink in line:
        rest = text
        while rest:
            cells = row_cells(((rest, ink),))
            if cells <= room:
                row.append((rest, ink))
                room -= cells
                break
            part = chop_cells(rest, max(1, room))[0] if room > 0 else ""
            cut = part.rfind(" ")
            if cut > 0 and len(part) - cut < 24:
                part = part[: cut + 1]
            elif row and len(rest) <= width - indent:
                part = ""
            row.append((part, ink))
            rows.append(tuple(row))
            rest = rest[len(part) :]
            row, room = [(" " * indent, "")], max(1, width - indent)
    rows.append(tuple(row))
    return rows
