"""A form with one input per knob: a copy of a trial's settings, changed by hand and checked before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from sessions.text import clean_line
from tui.formatting import value_text
from tui.knob_values import allowed_text, parse_value

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from sessions.records import Params
    from tui.snapshot import KnobFact

MAX_VALUE_TEXT = 100


class EnqueueScreen(ModalScreen["Params | None"]):
    """Enter sends the settings if every value is allowed; Esc sends nothing.

    Args:
        params: Settings to start from.
        knobs: Domains; a setting without one cannot be changed and is sent as it is.
    """

    CSS_PATH = "enqueue.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("down", "app.focus_next", "Next value", show=False),
        Binding("up", "app.focus_previous", "Value before", show=False),
    ]

    def __init__(self, params: Params, knobs: tuple[KnobFact, ...]) -> None:
        super().__init__()
        self._params = params
        self._knobs = tuple(knob for knob in knobs if knob.name)

    def compose(self) -> ComposeResult:
        """One line per knob."""
        with Vertical(classes="dialog form"):
            yield Static(Content("Enqueue: run these settings next"), classes="dialog-title")
            with VerticalScroll(can_focus=False):
                for place, knob in enumerate(self._knobs):
                    with Horizontal(classes="knob"):
                        yield Static(Content(knob.name), classes="name")
                        value = clean_line(value_text(self._params.get(knob.name, knob.default)))
                        yield Input(value, id=f"knob{place}", max_length=MAX_VALUE_TEXT, compact=True)
                        yield Static(Content(allowed_text(knob)), classes="allowed")
            yield Static(Content(""), id="problem")
            yield Static(Content("enter enqueue    up/down next value    esc back"), classes="keys")

    @on(Input.Changed)
    def forget_problem(self) -> None:
        """A changed value has not been judged yet."""
        self.query_one("#problem", Static).update(Content(""))

    @on(Input.Submitted)
    def submit(self) -> None:
        """Send the settings, or say what is wrong with the first bad one."""
        params = dict(self._params)
        for place, knob in enumerate(self._knobs):
            field = self.query_one(f"#knob{place}", Input)
            try:
                params[knob.name] = parse_value(knob, field.value)
            except ValueError as error:
                self.query_one("#problem", Static).update(Content(clean_line(str(error))))
                field.focus()
                return
        self.dismiss(params)

    def action_leave(self) -> None:
        """Send nothing."""
        self.dismiss(None)
