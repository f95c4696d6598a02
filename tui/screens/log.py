"""The Log screen: lines of server, worker and load, with levels, search and follow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.widgets import Input

from tui.keys import key
from tui.screens.session import SessionScreen
from tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType


MAX_SEARCH_TEXT = 200


class LogScreen(SessionScreen):
    """Log: what server, worker and load wrote, up to the moment looked at."""

    CSS_PATH = "log.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        key("slash", "search", "search", "A text in the lines"),
        key("n", "match(1)", "next match"),
        key("N", "match(-1)", "match before", show=False),
        key("F", "failure", "failure", "The line by which a trial failed; once more: that of the trial before"),
        key("l", "level", "level", "Show from debug, info, warning, error"),
        key("s", "stream", "stream", "Show all, server, worker, load"),
        key("up", "scroll(-1)", "up", show=False),
        key("down", "scroll(1)", "down", show=False),
        key("pageup", "scroll_page(-1)", "page up", show=False),
        key("pagedown", "scroll_page(1)", "page down", show=False),
        key("escape", "clear_search", "clear search", show=False),
    ]

    def compose_body(self) -> ComposeResult:
        """The lines, and the search input while it is open."""
        yield LogView()
        yield Input(placeholder="search; enter to keep, esc to clear", max_length=MAX_SEARCH_TEXT, compact=True)

    def on_mount(self) -> None:
        """The search opens with its key."""
        self.query_one(Input).display = False

    def on_screen_resume(self) -> None:
        """Ask for log lines while they are looked at."""
        self.trtune.ask(replace(self.request, logs=True))
        super().on_screen_resume()

    def on_screen_suspend(self) -> None:
        """Log lines are not needed elsewhere."""
        if not self.app.screen_stack or self.app.screen is not self:
            self.trtune.ask(replace(self.request, logs=False))

    def action_search(self) -> None:
        """Open the search."""
        field = self.query_one(Input)
        field.display = True
        field.focus()

    @on(Input.Changed)
    def search_changed(self, event: Input.Changed) -> None:
        """Highlight while typing, and show the newest match."""
        self.query_one(LogView).search(event.value)

    @on(Input.Submitted)
    def search_kept(self) -> None:
        """Close the input and keep the matches."""
        self.query_one(Input).display = False
        self.set_focus(None)

    def action_clear_search(self) -> None:
        """Forget the search."""
        field = self.query_one(Input)
        field.value = ""
        field.display = False
        self.set_focus(None)
        self.query_one(LogView).search("")

    def action_match(self, step: int) -> None:
        """Go to the next match, or the one before."""
        if not self.query_one(LogView).go_to_match(step):
            self.notify("no match", timeout=1.5, markup=False)

    def action_failure(self) -> None:
        """Go to the line by which a trial failed: the newest, then the ones before."""
        if not self.query_one(LogView).go_to_failure():
            self.notify("no line here made a trial fail", timeout=2, markup=False)

    def action_level(self) -> None:
        """Show only lines from the next level on."""
        self.query_one(LogView).cycle_level()

    def action_stream(self) -> None:
        """Show only the next stream."""
        self.query_one(LogView).cycle_stream()

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines; at the end the view follows again."""
        self.query_one(LogView).scroll_lines(lines)

    def action_scroll_page(self, pages: int) -> None:
        """Scroll by pages."""
        view = self.query_one(LogView)
        view.scroll_lines(pages * max(1, view.size.height - 2))
