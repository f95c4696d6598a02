"""A list to choose one thing from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult


class ChooseScreen(ModalScreen[str | None]):
    """Enter gives the name of the chosen line, Esc gives None.

    Args:
        title: What is chosen.
        options: Name and text of each line.
        verb: What Enter does.
    """

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "leave", "Back")]

    def __init__(self, title: str, options: Sequence[tuple[str, str]], verb: str = "choose") -> None:
        super().__init__()
        self._title = title
        self._options = tuple(options)
        self._verb = verb

    def compose(self) -> ComposeResult:
        """Title, list, keys."""
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), classes="dialog-title")
            yield OptionList(*(Option(Content(clean_line(text))) for _, text in self._options), compact=True)
            yield Static(Content(f"enter {self._verb}    esc back"), classes="keys")

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        """Give the name of the line."""
        self.dismiss(self._options[event.option_index][0])

    def action_leave(self) -> None:
        """Give nothing."""
        self.dismiss(None)
