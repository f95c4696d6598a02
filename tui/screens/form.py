"""A form: one input per line, checked as a whole before it is handed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult

MAX_VALUE_TEXT = 400
"""Longest text taken; a paste of a megabyte is cut."""


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a form.

    Attributes:
        name: What is asked.
        value: What stands there at first.
        hint: What is allowed.
    """

    name: str
    value: str
    hint: str = ""


class FieldProblem(ValueError):
    """A field cannot be taken as it is.

    Attributes:
        place: Which one.
    """

    def __init__(self, place: int, text: str) -> None:
        self.place = place
        super().__init__(text)


class FormScreen(ModalScreen["object | None"]):
    """Enter hands the values over if all of them are allowed; Esc hands nothing over.

    Args:
        title: What the form is for.
        fields: Its lines.
        read: Makes the result of the typed texts; raises `FieldProblem`.
        verb: What Enter does.
        problem: What was wrong with the same values before.
    """

    CSS_PATH = "form.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        # Before the inputs see them: what is typed at once after them, as over a slow link, is for the next value.
        Binding("down,tab", "app.focus_next", "Next value", show=False, priority=True),
        Binding("up,shift+tab", "app.focus_previous", "Value before", show=False, priority=True),
    ]

    def __init__(
        self,
        title: str,
        fields: Sequence[Field],
        read: Callable[[Sequence[str]], object],
        verb: str = "send",
        problem: str = "",
    ) -> None:
        super().__init__()
        self._title = title
        self._fields = tuple(fields)
        self._read = read
        self._verb = verb
        self._problem = problem
        self._texts = [clean_line(field.value) for field in self._fields]

    def compose(self) -> ComposeResult:
        """A title, the lines, and a line for what is wrong."""
        with Vertical(classes="dialog form"):
            yield Static(Content(self._title), classes="dialog-title")
            with VerticalScroll(can_focus=False):
                for place, field in enumerate(self._fields):
                    with Horizontal(classes="field"):
                        yield Static(Content(field.name), classes="name")
                        value = clean_line(field.value)
                        yield Input(value, id=f"field{place}", max_length=MAX_VALUE_TEXT, compact=True)
                        yield Static(Content(field.hint), classes="allowed")
            yield Static(Content(self._problem), id="problem")
            yield Static(Content(f"enter {self._verb}    up/down next value    esc back"), classes="keys")

    @on(Input.Changed)
    def forget_problem(self, event: Input.Changed) -> None:
        """A changed value has not been judged yet; the first texts of the inputs are no change."""
        place = int((event.input.id or "field0").removeprefix("field"))
        if event.value != self._texts[place]:
            self._texts[place] = event.value
            self.query_one("#problem", Static).update(Content(""))

    @on(Input.Submitted)
    def submit(self) -> None:
        """Hand the values over, or say what is wrong with the first bad one."""
        inputs = [self.query_one(f"#field{place}", Input) for place in range(len(self._fields))]
        try:
            result = self._read([field.value for field in inputs])
        except FieldProblem as problem:
            self.query_one("#problem", Static).update(Content(clean_line(str(problem))))
            inputs[problem.place].focus()
            return
        self.dismiss(result)

    def action_leave(self) -> None:
        """Hand nothing over."""
        self.dismiss(None)
