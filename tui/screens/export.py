"""Shows the best configuration in a form that something else takes; copies it, or writes it to a new file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from sessions.text import clean_line
from tui.keys import key
from tui.screens.prompt import PromptScreen

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.app import TrtuneApp

MAX_SHOWN = 200_000
"""Longest text shown, in characters; a longer one can still be written."""


class ExportMade(Message):
    """The text was made, or could not be."""

    def __init__(self, text: str, problem: str) -> None:
        self.text = text
        self.problem = problem
        super().__init__()


class ExportScreen(ModalScreen[None]):
    """A text to copy or to write.

    Args:
        session: The session.
        trial: The trial, or None for the best.
        form: Name of the form.
    """

    CSS_PATH = "export.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        key("escape,q", "leave", "back", show=False),
        key("y", "copy", "copy", "Copy it to the clipboard of your terminal"),
        key("w", "write", "write", "Write it to a new file"),
    ]

    def __init__(self, session: Path, trial: int | None, form: str) -> None:
        super().__init__()
        self._session = session
        self._trial = trial
        self._form = form
        self._text = ""

    def compose(self) -> ComposeResult:
        """The text and its keys."""
        which = "best trial" if self._trial is None else f"trial {self._trial}"
        with Vertical(classes="dialog export"):
            yield Static(
                Content(clean_line(f"{self._form} of the {which} of {self._session.name}")), classes="dialog-title"
            )
            with VerticalScroll():
                yield Static(Content("making it ..."), id="text")
            yield Static(Content("y copy    w write to a file    up/down scroll    esc back"), classes="keys")

    def on_mount(self) -> None:
        """Make the text in a thread."""
        self.query_one(VerticalScroll).focus()
        self.make()

    @work(thread=True, group="export")
    def make(self) -> None:
        """Ask the program for the text."""
        export = cast("TrtuneApp", self.app).door.export
        if export is None:
            self.post_message(ExportMade("", "this screen was started without the program that exports"))
            return
        try:
            self.post_message(ExportMade(export(self._session, self._trial, self._form), ""))
        except ValueError as error:
            self.post_message(ExportMade("", clean_line(str(error))))

    @on(ExportMade)
    def take_text(self, message: ExportMade) -> None:
        """Show the text line by line, harmlessly."""
        self._text = message.text
        shown = "\n".join(clean_line(line) for line in message.text[:MAX_SHOWN].splitlines())
        self.query_one("#text", Static).update(Content(message.problem or shown))

    def action_copy(self) -> None:
        """Copy the text."""
        if self._text:
            cast("TrtuneApp", self.app).errands.copy(self._form, self._text)

    def action_write(self) -> None:
        """Ask for a file that does not exist yet, and write it."""
        if self._text:
            hint = f"a new file, such as {self._form}.txt"
            self.app.push_screen(PromptScreen("Write to", hint), self._write)

    def _write(self, told: str | None) -> None:
        if told:
            cast("TrtuneApp", self.app).errands.write_new(told, self._text)

    def action_leave(self) -> None:
        """Back to the screen."""
        self.dismiss(None)
