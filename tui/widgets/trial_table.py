"""The table of trials: draws only the rows that are seen, so that ten thousand scroll like ten."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.message import Message

from sessions.records import PROOF
from tui.formatting import fit, fit_right, shorten
from tui.keys import key
from tui.trial_rows import TrialRow, baseline_params, trial_row
from tui.widgets.lines import LineWidget, Piece, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events
    from textual.binding import BindingType

    from tui.snapshot import Snapshot

_COLUMNS = (("#", 5), ("kind", 7), ("state", 11), ("score", 7), ("gain", 7), ("TTFT p99", 9), ("TPOT p99", 9))
_LEFT = ("kind", "state")
_NARROW_OUT = ("kind", "TPOT p99")
"""Columns left out below `_NARROW` cells."""

_NARROW = 100
_CHANGES = "differs from the baseline"


class TrialTable(LineWidget):
    """Trials in their order; the cursor chooses the one whose details are shown, and follows the newest until it is moved."""

    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        key("up", "move(-1)", "trial above", show=False),
        key("down", "move(1)", "trial below", show=False),
        key("pageup", "move_page(-1)", "page up", show=False),
        key("pagedown", "move_page(1)", "page down", show=False),
        key("enter", "open", "open trial", "The requests of the chosen trial", show=False),
    ]
    DEFAULT_CSS = """
    TrialTable { height: 1fr; }
    """

    class Chosen(Message):
        """The cursor has moved to another trial."""

    class Opened(Message):
        """A trial is to be looked at closely."""

    def __init__(self) -> None:
        super().__init__()
        self._cursor: int | None = None
        self._first = 0

    @property
    def row_count(self) -> int:
        """Trials there are."""
        return len(self._snapshot.trials) if self._snapshot is not None else 0

    @property
    def cursor_row(self) -> int:
        """Place of the cursor."""
        return max(0, self.row_count - 1) if self._cursor is None else min(self._cursor, max(0, self.row_count - 1))

    @property
    def chosen(self) -> int | None:
        """Number of the trial under the cursor; None while the cursor follows the newest."""
        if self._snapshot is None or self._cursor is None or not self._snapshot.trials:
            return None
        return self._snapshot.trials[self.cursor_row].number

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """The heading, and as many trials as fit, the cursor among them."""
        labels = _labels(width)
        room = max(1, height - 1)
        here = self.cursor_row
        self._first = max(0, min(max(min(self._first, here), here - room + 1), len(snapshot.trials) - room))
        base = baseline_params(snapshot)
        shown = snapshot.trials[self._first : self._first + room]
        head = "".join(
            fit(f"{label} ", cells) if label in _LEFT else fit_right(f"{label} ", cells) for label, cells in labels
        )
        rows: list[Row] = [((fit(head + " " + _CHANGES, width), "dim"),)]
        for place, trial in enumerate(shown, self._first):
            row = trial_row(snapshot, trial, base)
            rows.append(_chosen(row, labels, width) if place == here else _plain(row, labels, width))
        if not shown:
            rows.append((("no trial yet", "dim"),))
        return rows

    def action_move(self, step: int) -> None:
        """Move the cursor; at the newest it follows again."""
        if self.row_count:
            self._go_to(self.cursor_row + step)

    def action_move_page(self, pages: int) -> None:
        """Move the cursor by what is shown."""
        self.action_move(pages * max(1, self.size.height - 2))

    def action_open(self) -> None:
        """Look at the chosen trial closely."""
        self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        """Choose the trial under the pointer."""
        if 1 <= event.y <= self.row_count - self._first:
            self._go_to(self._first + event.y - 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Three trials down."""
        self.action_move(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Three trials up."""
        self.action_move(-3)

    def _go_to(self, place: int) -> None:
        self._cursor = None if place >= self.row_count - 1 else max(0, place)
        self._redraw()
        self.post_message(self.Chosen())


def _labels(width: int) -> list[tuple[str, int]]:
    return [(label, cells) for label, cells in _COLUMNS if width >= _NARROW or label not in _NARROW_OUT]


def _texts(row: TrialRow) -> dict[str, Piece]:
    best = "best" if row.best else ""
    gain = best if row.best and row.gain.startswith("+") else "bad" if row.gain.startswith("-") else ""
    return {
        "#": (f"{row.number}{'*' if row.best else ' '}", best),
        "kind": (row.kind, ""),
        "state": (row.state, row.ink),
        "score": (row.score, best),
        "gain": (row.gain, gain),
        "TTFT p99": (row.ttft_p99, ""),
        "TPOT p99": (row.tpot_p99, ""),
    }


def _plain(row: TrialRow, labels: Sequence[tuple[str, int]], width: int) -> Row:
    texts = _texts(row)
    pieces: list[Piece] = []
    for label, cells in labels:
        text, ink = texts[label]
        shown = fit(f"{shorten(text, cells - 1)} ", cells) if label in _LEFT else fit_right(f"{text} ", cells)
        pieces.append((shown, ink))
    rest = width - sum(cells for _, cells in labels) - 1
    # Where there is no room for the kind: why a trial with a higher score is not the best.
    apart = row.kind == PROOF and all(label != "kind" for label, _ in labels)
    pieces.append((" " + shorten(f"{row.kind}: {row.changes}" if apart else row.changes, rest), ""))
    return tuple(pieces)


def _chosen(row: TrialRow, labels: Sequence[tuple[str, int]], width: int) -> Row:
    """The row under the cursor, in one ink to its end."""
    return ((fit("".join(text for text, _ in _plain(row, labels, width)), width), "chosen"),)
