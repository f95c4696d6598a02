"""Help: what the screen shows, and every key that does something on it now."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.keys import TEXTUAL_ACTIONS

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.screen import Screen

_SIGNS = (
    "Timeline: one block per trial, in proportion to time. o complete, - pruned, ! misses an SLO, x failed, s skipped, "
    "/ interrupted, > running, * or star best; hatched: the server starts or stops; ^ mark; V or arrow: the moment shown."
)


class HelpScreen(ModalScreen[None]):
    """A list of keys, made from the bindings themselves so that it cannot be out of date.

    Args:
        about: The screen to explain.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "leave", "Back")]

    def __init__(self, about: Screen[None]) -> None:
        super().__init__()
        self._about = about

    def compose(self) -> ComposeResult:
        """A line on the screen, then its keys."""
        with VerticalScroll(classes="dialog help"):
            told = (type(self._about).__doc__ or "").strip().splitlines()[0]
            yield Static(Content(told), classes="dialog-title")
            yield Static(Content.assemble(*self._lines()))
            yield Static(Content(_SIGNS), classes="keys")

    def _lines(self) -> list[tuple[str, str] | str]:
        lines: list[tuple[str, str] | str] = []
        seen: set[tuple[str, str]] = set()
        for _node, binding, enabled, tooltip in self._about.active_bindings.values():
            told = tooltip or binding.tooltip or binding.description
            key = self.app.get_key_display(binding)
            if not told or (key, told) in seen or binding.system or binding.action in TEXTUAL_ACTIONS:
                continue
            seen.add((key, told))
            name = f"{binding.description}: {tooltip or binding.tooltip}" if binding.tooltip else told
            lines += [(f"{key:>12}", "bold" if enabled else "dim"), f"  {name}\n"]
        return lines

    def action_leave(self) -> None:
        """Back to the screen."""
        self.dismiss(None)
