"""Looks closer: one GPU, the requests of a level and the life of one, the server's iterations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.message import Message

from sessions.errors import SessionError
from sessions.text import clean_line
from tui.keys import key
from tui.request_lives import ORDERS, RequestLives, read_lives
from tui.screens.session import SessionScreen
from tui.widgets.gpu_detail import gpu_detail_rows
from tui.widgets.iteration_table import iteration_rows
from tui.widgets.lines import LineWidget, Row, title_row
from tui.widgets.request_chart import requests_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from sessions.records import LevelRecord
    from tui.request_lives import Order
    from tui.snapshot import Snapshot

VIEWS = ("requests", "GPU", "iterations")
AGAIN_NS = 2_000_000_000
"""Requests of a level that is under way are read again after so much session time."""


class LivesRead(Message):
    """The requests of a level were read, or cannot be."""

    def __init__(self, level: int, read_at_ns: int, lives: RequestLives | None, problem: str) -> None:
        self.level = level
        self.read_at_ns = read_at_ns
        self.lives = lives
        self.problem = problem
        super().__init__()


class InspectView(LineWidget):
    """Draws the chosen view."""

    DEFAULT_CSS = """
    InspectView { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.view = VIEWS[0]
        self.gpu = 0
        self.cursor: int | None = None
        self.level: LevelRecord | None = None
        self.lives: RequestLives | None = None
        self.problem = ""

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """Rows of the view."""
        if self.view == "GPU":
            return gpu_detail_rows(snapshot, self.gpu, width, height, self.glyphs)
        if self.view == "iterations":
            return iteration_rows(snapshot, width, height, self.glyphs)
        if self.level is None or self.lives is None:
            told = self.problem or ("reading the requests ..." if self.level else "no level of load has begun here")
            return [title_row("requests", width, self.glyphs), ((told, "dim"),)]
        return requests_rows(snapshot, self.level, self.lives, self.place(snapshot), (width, height), self.glyphs)

    def place(self, snapshot: Snapshot) -> int:
        """Place of the chosen request: the one sent last, until another is chosen."""
        if self.lives is None or not len(self.lives):
            return 0
        wanted = self.lives.place_at(snapshot.at_ns) if self.cursor is None else self.cursor
        return max(0, min(wanted, len(self.lives) - 1))

    def again(self) -> None:
        """Draw what has changed."""
        self._redraw()


class InspectScreen(SessionScreen):
    """Inspect: one GPU, the life of a request, or the server's iterations at the moment looked at."""

    BINDINGS: ClassVar[list[BindingType]] = [
        key("escape", "back", "close", "Back to the screen before"),
        key("i,tab", "turn(1)", "other view", "Requests, GPU, iterations"),
        key("shift+tab", "turn(-1)", "view before", show=False),
        key("up", "move(-1)", "one up", "The request, or the GPU, above", show=False),
        key("down", "move(1)", "one down", "The request, or the GPU, below", show=False),
        key("pageup", "move(-10)", "ten up", show=False),
        key("pagedown", "move(10)", "ten down", show=False),
        key("o", "order", "order", "Requests as sent, slowest to start, slowest to end"),
        key("l", "next_level", "level", "Requests of another level of the trial"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._order: Order = ORDERS[0]
        self._level_id: int | None = None
        self._reading: int | None = None
        self._read_at_ns = -1

    def compose_body(self) -> ComposeResult:
        """The view."""
        yield InspectView()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Order and level are those of requests."""
        if action in ("order", "next_level") and self.ready and self.query_one(InspectView).view != VIEWS[0]:
            return False
        return super().check_action(action, parameters)

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot; read requests when another level is looked at, or the one under way has grown."""
        view = self.query_one(InspectView)
        level = self._wanted_level(snapshot)
        if view.view == "requests" and level is not None and self.trtune.session is not None:
            other = view.level is None or level.id != view.level.id
            grown = level.end_ns is None and snapshot.at_ns >= self._read_at_ns + AGAIN_NS
            if other:
                view.lives, view.cursor, view.problem = None, None, ""
            if (other or grown) and self._reading != level.id:
                self._reading = level.id
                read = partial(self._read, self.trtune.session, level.id, snapshot.at_ns)
                self.run_worker(read, thread=True, group="lives", exclusive=True)
            view.level = level
        elif level is None:
            view.level, view.lives = None, None
        super().show(snapshot)

    def _wanted_level(self, snapshot: Snapshot) -> LevelRecord | None:
        """The level asked for, else the one under way, else the last; always one of the trial looked at."""
        levels = snapshot.selected_levels
        under_way = snapshot.level.id if snapshot.level is not None else None
        for wanted in (self._level_id, under_way):
            if (found := next((level for level in levels if level.id == wanted), None)) is not None:
                return found
        return levels[-1] if levels else None

    def _read(self, session: Path, level: int, at_ns: int) -> None:
        try:
            message = LivesRead(level, at_ns, read_lives(session, level, self._order), "")
        except (SessionError, OSError, ValueError) as error:
            message = LivesRead(level, at_ns, None, clean_line(str(error)))
        self.post_message(message)

    @on(LivesRead)
    def take_lives(self, message: LivesRead) -> None:
        """Show what was read, unless another level is looked at by now."""
        view = self.query_one(InspectView)
        if view.level is None or message.level != view.level.id:
            return
        self._reading, self._read_at_ns = None, message.read_at_ns
        if message.lives is not None:
            view.lives = message.lives if message.lives.order == self._order else message.lives.ordered(self._order)
        view.problem = message.problem
        view.again()

    def action_turn(self, step: int) -> None:
        """Another view."""
        view = self.query_one(InspectView)
        view.view = VIEWS[(VIEWS.index(view.view) + step) % len(VIEWS)]
        self.refresh_bindings()
        self._show_again()

    def action_move(self, step: int) -> None:
        """Another request, another GPU, or another reading."""
        view = self.query_one(InspectView)
        if self.snapshot is None:
            return
        if view.view == "GPU":
            view.gpu = (view.gpu + (1 if step > 0 else -1)) % max(1, len(self.snapshot.gpus))
        elif view.view == "iterations":
            self.action_sample(step)
        elif view.lives is not None:
            view.cursor = max(0, min(view.place(self.snapshot) + step, len(view.lives) - 1))
        self._show_again()

    def action_order(self) -> None:
        """Requests in another order."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        view = self.query_one(InspectView)
        if view.lives is not None:
            view.lives, view.cursor = view.lives.ordered(self._order), None
        self._show_again()

    def action_next_level(self) -> None:
        """Requests of the next level of the trial."""
        if self.snapshot is None or not self.snapshot.selected_levels:
            return
        known = [level.id for level in self.snapshot.selected_levels]
        here = self._wanted_level(self.snapshot)
        place = known.index(here.id) if here is not None and here.id in known else -1
        self._level_id = known[(place + 1) % len(known)]
        self._show_again()

    def _show_again(self) -> None:
        if self.snapshot is not None:
            self.show(self.snapshot)

    def action_back(self) -> None:
        """Back to the screen before."""
        self.app.pop_screen()
