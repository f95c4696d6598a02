"""The Compare screen: two trials of one session or of two, on one axis of time, with the differences in numbers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from sessions.text import clean_line
from tui.comparing import ALIGNS, Compared, SideChoice, read_both
from tui.formatting import number
from tui.harmless import READ_ERRORS
from tui.keys import key
from tui.screens.choose import ChooseScreen
from tui.screens.help import HelpScreen
from tui.screens.prompt import PromptScreen
from tui.widgets.compare_view import CompareView
from tui.widgets.key_bar import KeyBar
from tui.widgets.too_small import TooSmall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from tui.app import TrtuneApp
    from tui.session_list import SessionEntry
    from tui.snapshot import Snapshot

_CURSOR = Binding.Group("cursor", compact=True)
_ZOOM = Binding.Group("zoom", compact=True)
MOST_TRIALS, MOST_SESSIONS = 500, 200
"""Offered to choose from; `t` in the comparison takes any other."""

STEPS = 60
"""The cursor moves by one part in so many of what is shown."""


class BothRead(Message):
    """Both trials were read, or one cannot be."""

    def __init__(self, compared: Compared | None, problem: str) -> None:
        self.compared = compared
        self.problem = problem
        super().__init__()


class CompareScreen(Screen[None]):
    """Compare: two trials beside each other; A is drawn as a line, B with dots.

    Args:
        first: What B is compared with.
        second: B.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        key("question_mark", "help", "help", "What every key does"),
        key("escape,c", "back", "close", "Back to the screen before"),
        key("x", "swap", "swap", "A becomes B"),
        key("o", "align", "align", "At the start of the trial, of measuring, or by the time of day"),
        key("l", "load", "load", "Results at another load that both were measured at"),
        key("left", "cursor(-1)", "cursor back", "The headings tell the values at the cursor", group=_CURSOR),
        key("right", "cursor(1)", "cursor on", group=_CURSOR),
        key("shift+left", "cursor(-10)", "cursor far back", show=False),
        key("shift+right", "cursor(10)", "cursor far on", show=False),
        key("plus,equals_sign", "zoom(0.5)", "closer", "Around the cursor", group=_ZOOM),
        key("minus", "zoom(2.0)", "wider", group=_ZOOM),
        key("z", "whole", "all of it", group=_ZOOM),
        key("t", "other", "other trial", "Another trial as B"),
    ]

    def __init__(self, first: SideChoice, second: SideChoice) -> None:
        super().__init__()
        self._sides = (first, second)

    def compose(self) -> ComposeResult:
        """The comparison and the keys."""
        yield TooSmall()
        yield CompareView()
        yield KeyBar()

    def on_mount(self) -> None:
        """Read both in a thread."""
        self._read_both()

    @property
    def view(self) -> CompareView:
        """What draws it."""
        return self.query_one(CompareView)

    def _read_both(self) -> None:
        self.view.told = "reading both ..."
        self.view.again()
        self.run_worker(partial(self._read, *self._sides), thread=True, group="compare", exclusive=True)

    def _read(self, first: SideChoice, second: SideChoice) -> None:
        try:
            self.post_message(BothRead(read_both(first, second), ""))
        except READ_ERRORS as error:
            self.post_message(BothRead(None, clean_line(str(error))))

    @on(BothRead)
    def take_both(self, message: BothRead) -> None:
        """Show both."""
        view = self.view
        view.compared, view.told = message.compared or view.compared, message.problem
        if message.problem and view.compared is not None:
            self.notify(message.problem, severity="error", markup=False)
        view.window_ns = view.cursor_ns = None
        view.again()

    def action_swap(self) -> None:
        """A becomes B."""
        self._sides = (self._sides[1], self._sides[0])
        self._read_both()

    def action_align(self) -> None:
        """Lay the trials over each other another way."""
        view = self.view
        view.align = ALIGNS[(ALIGNS.index(view.align) + 1) % len(ALIGNS)]
        view.window_ns = view.cursor_ns = None
        view.again()

    def action_load(self) -> None:
        """Results at another load."""
        self.view.load += 1
        self.view.again()

    def action_cursor(self, steps: int) -> None:
        """Move the cursor; from the edge when there was none."""
        view = self.view
        start_ns, end_ns = view.window_ns or view.axis_ns()
        here_ns = view.cursor_ns if view.cursor_ns is not None else (start_ns if steps > 0 else end_ns)
        view.cursor_ns = max(start_ns, min(end_ns, here_ns + steps * (end_ns - start_ns) // STEPS))
        view.again()

    def action_zoom(self, factor: float) -> None:
        """Show less or more around the cursor, or around the middle."""
        view = self.view
        whole_ns = view.axis_ns()
        start_ns, end_ns = view.window_ns or whole_ns
        middle_ns = view.cursor_ns if view.cursor_ns is not None else (start_ns + end_ns) // 2
        reach_ns = max(1_000_000_000, round((end_ns - start_ns) * factor)) // 2
        window_ns = (max(whole_ns[0], middle_ns - reach_ns), min(whole_ns[1], middle_ns + reach_ns))
        view.window_ns = None if window_ns == whole_ns else window_ns
        view.again()

    def action_whole(self) -> None:
        """Show all of both."""
        self.view.window_ns = None
        self.view.again()

    def action_other(self) -> None:
        """Ask for another trial as B."""

        def take(text: str | None) -> None:
            if text:
                self._sides = (self._sides[0], SideChoice(self._sides[1].path, int(text)))
                self._read_both()

        title = f"Another trial of {clean_line(self._sides[1].path.name)} as B"
        self.app.push_screen(PromptScreen(title, "number of the trial", check=_no_number), take)

    def action_help(self) -> None:
        """Show what every key does."""
        self.app.push_screen(HelpScreen(self))

    def action_back(self) -> None:
        """Back to the screen before."""
        self.app.pop_screen()


def _no_number(text: str) -> str:
    return "" if text.isascii() and text.isdigit() else f"{text[:20]!r} is no number of a trial"


def choose_other(app: TrtuneApp, session: Path, snapshot: Snapshot, entries: Sequence[SessionEntry]) -> None:
    """Ask what to compare the trial looked at with: another trial of the session, or the best of another session."""
    here = snapshot.selected
    second = SideChoice(session, here.number if here is not None else None)
    trials = [
        (f"trial:{trial.number}", f"trial {trial.number}  {trial.kind} {trial.state}  {number(trial.score)}")
        for trial in sorted(snapshot.all_trials, key=lambda trial: (trial.kind != "baseline", trial.number))
        if here is None or trial.number != here.number
    ][:MOST_TRIALS]
    others = [
        (f"session:{entry.path}", f"best of {entry.path.name}")
        for entry in entries
        if entry.facts is not None and entry.path != session
    ][:MOST_SESSIONS]

    def show(chosen: str | None) -> None:
        if chosen is None:
            return
        kind, _, told = chosen.partition(":")
        first = SideChoice(session, int(told)) if kind == "trial" else SideChoice(Path(told))
        app.push_screen(CompareScreen(first, second))

    if not trials and not others:
        app.notify("there is nothing else to compare with yet", timeout=2, markup=False)
        return
    which = f"trial {here.number}" if here is not None else "the best"
    app.push_screen(ChooseScreen(f"Compare {which} with", trials + others, "compare"), show)
