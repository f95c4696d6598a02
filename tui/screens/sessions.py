"""The Sessions screen: the files of the sessions folder with a preview; Enter opens one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Input, Static

from sessions.clock import NS_PER_S
from sessions.text import clean_line
from tui.comparing import SideChoice
from tui.formatting import fit, percent, shorten, span, utc_text
from tui.keys import key
from tui.screens.compare import CompareScreen
from tui.screens.help import HelpScreen
from tui.session_list import SessionEntry, list_sessions
from tui.widgets.key_bar import KeyBar
from tui.widgets.session_preview import preview
from tui.widgets.too_small import TooSmall

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.app import TrtuneApp

REFRESH_S = 3.0
"""How often the folder is looked at again."""

_COLUMNS = (("state", 10), ("name", 28), ("kind", 5), ("trials", 6), ("gain", 8), ("length", 12), ("written (UTC)", 16))


class SessionTable(DataTable[Text], inherit_bindings=False):
    """The list, with keys for what does something on it, under the words of this program."""

    BINDINGS: ClassVar[list[BindingType]] = [
        key("up", "cursor_up", "session above", show=False),
        key("down", "cursor_down", "session below", show=False),
        key("pageup", "page_up", "page up", show=False),
        key("pagedown", "page_down", "page down", show=False),
        key("home", "scroll_top", "first session", show=False),
        key("end", "scroll_bottom", "last session", show=False),
    ]


class SessionsListed(Message):
    """The folder was read."""

    def __init__(self, entries: list[SessionEntry]) -> None:
        self.entries = entries
        super().__init__()


class SessionsScreen(Screen[None]):
    """Sessions: what was recorded here; Enter opens one, live if its worker writes, else to replay."""

    CSS_PATH = "sessions.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        key("question_mark", "help", "help", "What every key does"),
        key("enter", "open", "open", "Show the chosen session"),
        key("n", "new", "new", "Set up: find servers here, choose what to do, start"),
        key("c", "compare", "compare", "Beside another session: once for each of the two"),
        key("slash", "search", "search", "Names, models, engines"),
        key("y", "copy", "copy", "Copy the path of the chosen session"),
        key("R", "reload", "read again", show=False),
        key("escape", "clear_search", "clear search", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[SessionEntry] | None = None
        self._listed: list[SessionEntry] = []
        self._compared_from: Path | None = None

    def compose(self) -> ComposeResult:
        """The list, the preview, the search."""
        yield TooSmall()
        yield Static(Content(clean_line(f" sessions in {self.trtune.sessions_dir}")), id="folder")
        with Horizontal():
            yield SessionTable(cursor_type="row", cell_padding=1)
            yield Static(Content(""), id="preview")
        yield Input(placeholder="search names, models, engines", max_length=200, compact=True)
        yield KeyBar()

    @property
    def trtune(self) -> TrtuneApp:
        """The application, as its own type."""
        return cast("TrtuneApp", self.app)

    def on_mount(self) -> None:
        """Put up the columns and read the folder now and then."""
        table = self.query_one(SessionTable)
        for label, width in _COLUMNS:
            table.add_column(Text(fit(label, width)), key=label, width=width)
        self.query_one(Input).display = False
        table.focus()
        self.set_interval(REFRESH_S, self._refresh_in_front)

    def on_screen_resume(self) -> None:
        """Read the folder when the screen comes to the front."""
        self.action_reload()

    def _refresh_in_front(self) -> None:
        if self.is_current:
            self.action_reload()

    @work(thread=True, exclusive=True, group="list")
    def action_reload(self) -> None:
        """Read the folder in a thread."""
        known = {entry.path: entry for entry in self._entries or ()}
        self.post_message(SessionsListed(list_sessions(self.trtune.sessions_dir, known)))

    @on(SessionsListed)
    def take_list(self, message: SessionsListed) -> None:
        """Show what was found."""
        if message.entries != self._entries:
            self._entries = message.entries
            self.trtune.known_sessions = {entry.path: entry for entry in message.entries}
            self._fill()

    def _fill(self) -> None:
        needle = self.query_one(Input).value.strip().lower()
        table = self.query_one(SessionTable)
        chosen = self._chosen.path if self._chosen is not None else None
        self._listed = [entry for entry in self._entries or () if not needle or needle in _haystack(entry)]
        table.clear()
        for entry in self._listed:
            table.add_row(*_cells(entry))
        place = next((place for place, entry in enumerate(self._listed) if entry.path == chosen), 0)
        table.move_cursor(row=place, animate=False)
        self._preview()

    @property
    def _chosen(self) -> SessionEntry | None:
        row = self.query_one(SessionTable).cursor_row
        return self._listed[row] if 0 <= row < len(self._listed) else None

    @on(DataTable.RowHighlighted)
    def _preview(self) -> None:
        empty = Content(f"no session here yet\n\ntrtune demo  makes one\n\n{self.trtune.sessions_dir}")
        entry = self._chosen
        self.query_one("#preview", Static).update(preview(entry) if entry is not None else empty)

    @on(DataTable.RowSelected)
    def action_open(self) -> None:
        """Show the chosen session."""
        entry = self._chosen
        if entry is None:
            return
        if entry.error:
            self.notify(entry.error, severity="error", markup=False)
            return
        live = entry.state is not None and entry.state.live
        self.trtune.open_session(entry.path, "live" if live else "replay")
        self.trtune.switch_mode("tune" if entry.facts is not None and entry.facts.kind == "tune" else "live")

    def action_compare(self) -> None:
        """Choose one session, then another: the best of both are shown beside each other."""
        entry = self._chosen
        if entry is None or entry.error:
            return
        if self._compared_from is None or self._compared_from == entry.path:
            self._compared_from = entry.path
            told = f"{entry.path.name} is A: choose B and press the key again"
            self.notify(clean_line(told), timeout=4, markup=False)
            return
        first, self._compared_from = SideChoice(self._compared_from), None
        self.app.push_screen(CompareScreen(first, SideChoice(entry.path)))

    def action_copy(self) -> None:
        """Copy the path of the chosen session."""
        if self._chosen is not None:
            self.trtune.errands.copy("path of the session", str(self._chosen.path))

    def action_new(self) -> None:
        """Set up something new."""
        self.trtune.errands.set_up()

    def action_search(self) -> None:
        """Open the search."""
        field = self.query_one(Input)
        field.display = True
        field.focus()

    @on(Input.Changed)
    def search_changed(self) -> None:
        """Show what matches."""
        self._fill()

    @on(Input.Submitted)
    def search_kept(self) -> None:
        """Back to the list."""
        self.query_one(SessionTable).focus()

    def action_clear_search(self) -> None:
        """Show everything again."""
        field = self.query_one(Input)
        field.value = ""
        field.display = False
        self.query_one(SessionTable).focus()

    def action_help(self) -> None:
        """Show what every key does."""
        self.app.push_screen(HelpScreen(self))


def _haystack(entry: SessionEntry) -> str:
    facts = entry.facts
    told = (facts.name, facts.model, facts.engine, facts.kind) if facts is not None else ()
    return " ".join((entry.path.name, *told)).lower()


def _cells(entry: SessionEntry) -> list[Text]:
    written = utc_text(int(entry.modified_s * NS_PER_S), "%Y-%m-%d %H:%M")
    if entry.facts is None or entry.state is None:
        texts = ["BROKEN", shorten(clean_line(entry.path.name), 28), "", "", "", "", written]
        return [Text(text, style="dim") for text in texts]
    style = "bold" if entry.state.live else ""
    texts = [
        entry.state.word,
        shorten(entry.facts.name or clean_line(entry.path.stem), 28),
        entry.facts.kind,
        str(entry.trials),
        percent(entry.gain_ratio, signed=True),
        span(entry.length_ns / NS_PER_S),
        written,
    ]
    return [Text(text, style=style) for text in texts]
