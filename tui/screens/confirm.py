"""Asks before something that cannot be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult


class ConfirmScreen(ModalScreen[bool]):
    """A question that `y` answers with yes and everything else with no.

    Args:
        question: What is about to happen.
        verb: What `y` does.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str, verb: str) -> None:
        super().__init__()
        self._question = question
        self._verb = verb

    def compose(self) -> ComposeResult:
        """The question and the two keys."""
        with Vertical(classes="dialog"):
            yield Static(Content(self._question))
            yield Static(Content.assemble(("y", "bold"), f" {self._verb}    ", ("n", "bold"), " stay"), classes="keys")

    def action_answer(self, sure: bool) -> None:
        """Give the answer."""
        self.dismiss(sure)
