"""The whole session in two rows: marks above, trials as blocks in true proportion of time below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

from tui.snapshot import best_trial, improvements
from tui.widgets.lines import LineWidget, Piece, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events

    from sessions.records import Trial
    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot

STATE_SIGNS: dict[str, tuple[str, str]] = {
    "complete": ("o", "ok"),
    "pruned": ("-", "dim"),
    "infeasible": ("!", "warn"),
    "failed": ("x", "bad"),
    "skipped": ("s", "dim"),
    "interrupted": ("/", "warn"),
    "running": (">", "accent"),
}
"""Letter and ink of each state of a trial: colour never tells anything alone."""

RESTART_PHASES = ("prepare", "build", "start", "reload", "stop")


class Timeline(LineWidget):
    """Where the moment looked at lies in the session; a click goes there."""

    DEFAULT_CSS = """
    Timeline { height: 2; }
    """

    class Seek(Message):
        """Go to a moment of the session."""

        def __init__(self, at_ns: int) -> None:
            self.at_ns = at_ns
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self._key = (0, 0, 0, 0)
        self._kept: tuple[object, object] = ((), ())
        """What the key names, kept alive so that no other object can have the same identity."""
        self._blocks: Row = ()
        self._improved: list[Trial] = []

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """Two rows; the blocks are drawn anew only when a trial or the length of the session has changed."""
        # By identity: thousands of trials take as long to compare as to draw.
        key = (id(snapshot.all_trials), id(snapshot.all_phases), snapshot.end_ns, width)
        if key != self._key:
            self._key, self._kept = key, (snapshot.all_trials, snapshot.all_phases)
            self._blocks = blocks_row(snapshot, width, self.glyphs)
            self._improved = improvements(snapshot.all_trials, snapshot.facts.objective)
        return [marks_row(snapshot, width, self.glyphs, self._improved), self._blocks]

    def on_click(self, event: events.Click) -> None:
        """Go to the moment under the pointer."""
        if self._snapshot is not None and self.size.width:
            self.post_message(self.Seek((event.x * 2 + 1) * self._snapshot.end_ns // (2 * self.size.width)))


def cell_of(t_ns: int, end_ns: int, width: int) -> int:
    """Cell of a moment when the whole session takes `width` cells."""
    return min(width - 1, t_ns * width // max(1, end_ns)) if t_ns >= 0 else 0


def blocks_row(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Row:
    """One block per trial with its sign and number; starts and stops of the server are hatched."""
    chars, inks = [" "] * width, [""] * width
    end_ns = max(1, snapshot.end_ns)
    best = best_trial(snapshot.all_trials, snapshot.facts.objective, snapshot.facts.winner)
    for trial in snapshot.all_trials:
        ink = STATE_SIGNS.get(trial.state, ("?", ""))[1]
        first, last = _cells(trial.start_ns, trial.end_ns, end_ns, width)
        for cell in range(first, last + 1):
            chars[cell], inks[cell] = glyphs.rule, ink
    for phase in snapshot.all_phases:
        if phase.name in RESTART_PHASES:
            first, last = _cells(phase.start_ns, phase.end_ns, end_ns, width)
            for cell in range(first, last + 1):
                chars[cell] = glyphs.hatch
    for trial in snapshot.all_trials:
        _label(trial, trial is best, chars, inks, _cells(trial.start_ns, trial.end_ns, end_ns, width), glyphs)
    return _joined(chars, inks)


def marks_row(snapshot: Snapshot, width: int, glyphs: Glyphs, improved: Sequence[Trial] | None = None) -> Row:
    """Marks of people, improvements of the best, and the moment looked at."""
    chars, inks = [" "] * width, [""] * width
    end_ns = max(1, snapshot.end_ns)
    for event in snapshot.events:
        if event.kind in ("mark", "warning", "drift"):
            cell = cell_of(event.t_ns, end_ns, width)
            chars[cell], inks[cell] = glyphs.note, "accent" if event.kind == "mark" else "warn"
    if improved is None:
        improved = improvements(snapshot.all_trials, snapshot.facts.objective)
    for trial in improved:
        if trial.end_ns is not None:
            cell = cell_of(trial.end_ns, end_ns, width)
            chars[cell], inks[cell] = glyphs.star, "best"
    here = cell_of(snapshot.at_ns, end_ns, width)
    chars[here], inks[here] = glyphs.here, "cursor"
    return _joined(chars, inks)


def _cells(start_ns: int, stop_ns: int | None, end_ns: int, width: int) -> tuple[int, int]:
    first = cell_of(start_ns, end_ns, width)
    after = cell_of((end_ns if stop_ns is None else stop_ns) - 1, end_ns, width)
    return first, max(first, after)


def _label(trial: Trial, best: bool, chars: list[str], inks: list[str], cells: tuple[int, int], glyphs: Glyphs) -> None:
    """Number and sign, as much of them as the block holds; the sign comes first, for it tells more."""
    sign, ink = STATE_SIGNS.get(trial.state, ("?", ""))
    if best:
        sign, ink = glyphs.star, "best"
    first, last = cells
    label = f"{sign}{trial.number}"
    if last - first < len(label):
        label = sign
    for place, char in enumerate(label):
        chars[first + place], inks[first + place] = char, ink


def _joined(chars: list[str], inks: list[str]) -> Row:
    pieces: list[Piece] = []
    for char, ink in zip(chars, inks, strict=True):
        if pieces and (pieces[-1][1] == ink or char == " "):
            pieces[-1] = (pieces[-1][0] + char, pieces[-1][1])
        else:
            pieces.append((char, ink))
    return tuple(pieces)
