"""The table of trials: one row each, redrawn at most once a second because a table redraws every cell it shows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from tui.formatting import fit, shorten
from tui.trial_rows import TrialRow, trial_rows
from tui.widgets.lines import INK_CSS, INKS

if TYPE_CHECKING:
    from tui.snapshot import Snapshot

ROWS_AT_ONCE = 200
"""Most rows added in one update: a table of thousands fills over several, and no key waits for it."""

REDRAW_S = 1.0
"""Shortest time between two updates of the table."""

_COLUMNS = (("#", 4), ("kind", 7), ("state", 10), ("score", 6), ("gain", 6), ("TTFT p99", 8), ("TPOT p99", 8))
_NARROW_OUT = ("kind", "TPOT p99")
"""Columns left out below `_NARROW` cells."""

_NARROW = 100
_CHANGES = "differs from the baseline"


class TrialTable(DataTable[Text], inherit_bindings=False):
    """Trials in their order; the cursor chooses the one whose details are shown, and follows the running one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "cursor_up", "Trial above", show=False),
        Binding("down", "cursor_down", "Trial below", show=False),
        Binding("pageup", "page_up", "Page up", show=False),
        Binding("pagedown", "page_down", "Page down", show=False),
    ]
    DEFAULT_CSS = f"TrialTable {{ height: 1fr; {INK_CSS} }}"
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"ink--{name}" for name in INKS}

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, cell_padding=1)
        self._shown: list[TrialRow] = []
        self._snapshot: Snapshot | None = None
        self._drawn_s = -1e9
        self._placed: tuple[tuple[str, int], ...] = ()

    def on_resize(self) -> None:
        """Put up the columns that fit; the last one takes the rest of the width."""
        labels = [(label, width) for label, width in _COLUMNS if self.size.width >= _NARROW or label not in _NARROW_OUT]
        rest = self.size.width - sum(width + 2 for _, width in labels) - 3
        wanted = (*labels, (_CHANGES, max(len(_CHANGES), rest)))
        if wanted == self._placed:
            return
        self._placed = wanted
        chosen = self.cursor_row
        self.clear(columns=True)
        for label, width in wanted:
            self.add_column(Text(fit(label, width)), key=label, width=width)
        for row in self._shown:
            self.add_row(*self._cells(row), key=str(row.number))
        self.move_cursor(row=chosen, animate=False)
        if self._snapshot is not None:
            self.show(self._snapshot)

    def show(self, snapshot: Snapshot, *, now_s: float | None = None) -> None:
        """Bring the rows up to date, unless that was done less than a second ago and no trial was added or removed."""
        self._snapshot = snapshot
        now_s = time.monotonic() if now_s is None else now_s
        same_trials = len(snapshot.trials) == len(self._shown)
        if not self._placed or (same_trials and now_s - self._drawn_s < REDRAW_S):
            return
        self._drawn_s = now_s
        self._fill(trial_rows(snapshot))

    def _fill(self, rows: list[TrialRow]) -> None:
        """Update what is there, and add a part of what is not; the rest follows when that part is drawn."""
        known = [row.number for row in self._shown]
        if known != [row.number for row in rows[: len(known)]]:
            self.clear()
            self._shown = []
        follows = self.cursor_row >= len(self._shown) - 1
        for place, row in enumerate(rows[: len(self._shown)]):
            if row != self._shown[place]:
                for (label, _), cell in zip(self._placed, self._cells(row), strict=True):
                    self.update_cell(str(row.number), label, cell)
        shown = rows[: len(self._shown) + ROWS_AT_ONCE]
        for row in shown[len(self._shown) :]:
            self.add_row(*self._cells(row), key=str(row.number))
        self._shown = shown
        if follows and shown:
            self.move_cursor(row=len(shown) - 1, animate=False)
        if len(shown) < len(rows):
            self.call_after_refresh(self._fill, rows)

    @property
    def chosen(self) -> int | None:
        """Number of the trial under the cursor; None while the cursor follows the newest."""
        if not self._shown or self.cursor_row >= len(self._shown) - 1:
            return None
        return self._shown[self.cursor_row].number

    def _cells(self, row: TrialRow) -> list[Text]:
        best = "best" if row.best else ""
        gain_ink = best if row.best and row.gain.startswith("+") else "bad" if row.gain.startswith("-") else ""
        cells = {
            "#": Text(f"{row.number:>3}{'*' if row.best else ' '}", style=self._style(best)),
            "kind": Text(shorten(row.kind, 7)),
            "state": Text(shorten(row.state, 10), style=self._style(row.ink)),
            "score": Text(row.score, justify="right", style=self._style(best)),
            "gain": Text(row.gain, justify="right", style=self._style(gain_ink)),
            "TTFT p99": Text(row.ttft_p99, justify="right"),
            "TPOT p99": Text(row.tpot_p99, justify="right"),
            _CHANGES: Text(row.changes, no_wrap=True, overflow="ellipsis"),
        }
        return [cells[label] for label, _ in self._placed]

    def _style(self, ink: str) -> str:
        if not ink:
            return ""
        style = self.get_component_rich_style(f"ink--{ink}", partial=True)
        return str(style)
