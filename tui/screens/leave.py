"""Asks, when the screen is left while a worker writes, whether the work goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult

LeaveChoice = Literal["detach", "stop"]


class LeaveScreen(ModalScreen[LeaveChoice | None]):
    """Leave and let the work go on, leave and stop it, or stay.

    Args:
        session: Name of the session's file, to come back to.
        may_stop: Whether stopping is allowed from here.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "choose('detach')", "Leave; the work goes on"),
        Binding("s", "choose('stop')", "Stop the work"),
        Binding("escape,n", "choose('')", "Stay"),
    ]

    def __init__(self, session: str, *, may_stop: bool) -> None:
        super().__init__()
        self._session = session
        self._may_stop = may_stop

    def compose(self) -> ComposeResult:
        """The three choices."""
        with Vertical(classes="dialog"):
            yield Static(Content("Leave?"), classes="dialog-title")
            yield Static(
                Content.assemble(("d", "bold"), f"    the work goes on; back with: trtune attach {self._session}")
            )
            if self._may_stop:
                yield Static(Content.assemble(("s", "bold"), "    stop the work; what is finished is kept"))
            yield Static(Content.assemble(("esc", "bold"), "  stay"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Stopping is no choice where it is not allowed."""
        return self._may_stop or parameters != ("stop",)

    def action_choose(self, choice: str) -> None:
        """Give the choice."""
        self.dismiss("detach" if choice == "detach" else "stop" if choice == "stop" else None)
