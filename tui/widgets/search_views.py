"""Views of the search beside each other: history, Pareto front, importances, effect of one knob, queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import shorten
from tui.plotting import side_by_side
from tui.widgets.effect_chart import effect_knobs, effect_rows
from tui.widgets.history_plot import history_rows
from tui.widgets.importance_bars import importance_rows
from tui.widgets.lines import LineWidget, Row
from tui.widgets.pareto_plot import pareto_rows
from tui.widgets.queue_list import queue_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot

VIEWS = ("history", "importance", "effect", "pareto", "queue")
"""In the order in which they come when there is room for several."""

MIN_CELLS = 46
MIN_ROWS = 12
_GAP = 2


class SearchViews(LineWidget):
    """As many views as there is room for, beginning with the chosen one."""

    DEFAULT_CSS = """
    SearchViews { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._first = 0
        self._knob = ""
        self._key: tuple[object, ...] = ()
        self._kept: tuple[object, ...] = ()
        """What the key names, kept alive so that no other object can have the same identity."""
        self._drawn: list[Row] = []

    @property
    def view(self) -> str:
        """The view that comes first."""
        return VIEWS[self._first]

    @property
    def knob(self) -> str:
        """The knob whose effect is shown."""
        known = effect_knobs(self._snapshot) if self._snapshot is not None else []
        return self._knob if self._knob in known else next(iter(known), "")

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """The grid of views, drawn anew only when a trial or what the worker tells has changed."""
        # By identity: thousands of trials take as long to compare as to draw.
        which = (id(snapshot.trials), id(snapshot.facts), told_of(snapshot))
        key = (*which, self._first, self.knob, width, height)
        if key != self._key:
            self._key, self._kept = key, (snapshot.trials, snapshot.facts)
            self._drawn = search_rows(snapshot, self._first, self.knob, (width, height), self.glyphs)
        return self._drawn

    def turn(self, step: int) -> None:
        """Begin with the next view, or the one before."""
        self._first = (self._first + step) % len(VIEWS)
        self._redraw()

    def turn_knob(self, step: int) -> str:
        """Show the effect of the next knob; gives its name, empty when no effect is known."""
        known = effect_knobs(self._snapshot) if self._snapshot is not None else []
        if known:
            self._knob = known[(known.index(self.knob) + step) % len(known)]
            self._redraw()
        return self.knob


def search_rows(snapshot: Snapshot, first: int, knob: str, size: tuple[int, int], glyphs: Glyphs) -> list[Row]:
    """The views in a grid that suits the space.

    Args:
        snapshot: What is looked at.
        first: Place in VIEWS of the view that comes first.
        knob: Whose effect is shown.
        size: Cells across and down.
        glyphs: Characters to draw with.
    """
    width, height = size
    across = min(len(VIEWS), max(1, (width + _GAP) // (MIN_CELLS + _GAP)))
    down = max(1, min(height // MIN_ROWS, -(-len(VIEWS) // across)))
    rows: list[Row] = []
    for line in range(down):
        tall = height * (line + 1) // down - height * line // down
        count = min(across, len(VIEWS) - line * across)
        names = [VIEWS[(first + line * across + place) % len(VIEWS)] for place in range(count)]
        each = (width - _GAP * (count - 1)) // count
        blocks = [_view(name, snapshot, knob, each, tall, glyphs) for name in names]
        shown = side_by_side(blocks, [each] * count, _GAP)
        rows += [shown[y] if y < len(shown) else () for y in range(tall)]
    return rows


def told_of(snapshot: Snapshot) -> str:
    """Of which moment the worker's words about its search are, where that is not the moment looked at; else empty."""
    if snapshot.at_ns >= snapshot.end_ns:
        return ""
    return "as of now" if snapshot.state.live else "as at the end of the session"


def _view(name: str, snapshot: Snapshot, knob: str, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    told = told_of(snapshot)
    if name == "history" or not told:
        return _drawing(name, snapshot, knob, width, height, glyphs)
    head, *rest = _drawing(name, snapshot, knob, width, height - 1, glyphs)
    return [head, ((shorten(told, width), "warn"),), *rest]


def _drawing(name: str, snapshot: Snapshot, knob: str, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    match name:
        case "importance":
            return importance_rows(snapshot, width, height, glyphs, knob)
        case "effect":
            return effect_rows(snapshot, knob, width, height, glyphs)
        case "pareto":
            return pareto_rows(snapshot, width, height, glyphs)
        case "queue":
            return queue_rows(snapshot, width, height, glyphs)
        case _:
            return history_rows(snapshot, width, height, glyphs)
