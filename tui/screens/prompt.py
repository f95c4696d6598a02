"""Asks for one line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

MAX_TEXT = 400
"""Longest text taken; a paste of a megabyte is cut."""


class PromptScreen(ModalScreen[str | None]):
    """One input; Enter gives its text, Esc gives None.

    Args:
        title: What is asked.
        hint: What may be typed.
        check: Says in one line what is wrong with a text, or nothing.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(self, title: str, hint: str, check: Callable[[str], str] | None = None) -> None:
        super().__init__()
        self._title = title
        self._hint = hint
        self._check = check

    def compose(self) -> ComposeResult:
        """Title, input, and a line for what is wrong."""
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), classes="dialog-title")
            yield Input(placeholder=self._hint, max_length=MAX_TEXT, compact=True)
            yield Static(Content(""), id="problem")

    @on(Input.Changed)
    def forget_problem(self) -> None:
        """A changed text has not been judged yet."""
        self.query_one("#problem", Static).update(Content(""))

    @on(Input.Submitted)
    def submit(self, event: Input.Submitted) -> None:
        """Give the text if nothing is wrong with it."""
        text = event.value.strip()
        problem = self._check(text) if self._check is not None and text else ""
        if problem:
            self.query_one("#problem", Static).update(Content(problem))
        else:
            self.dismiss(text or None)

    def action_leave(self) -> None:
        """Give nothing."""
        self.dismiss(None)
