"""The keys that do something now, in a row or two: as many as fit, neighbours that belong together under one word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual import events
    from textual.screen import Screen


ORDER = (
    "screens",
    "open",
    "choose",
    "pause",
    "skip",
    "enqueue",
    "view",
    "ranges",
    "objective",
    "unqueue",
    "prove",
    "export",
    "stop",
    "detach",
    "new",
    "search",
    "next match",
    "other view",
    "order",
    "level",
    "stream",
    "failure",
    "inspect",
    "compare",
    "play",
    "seek",
    "trial",
    "follow",
    "go to",
    "zoom",
    "speed",
    "best",
    "mark",
    "copy",
    "to mark",
    "sample",
)
"""Words in the order in which they are shown; what is not named comes after."""

ALWAYS = ("help", "leave")
"""Words that are shown however narrow the terminal is."""


@dataclass(frozen=True, slots=True)
class KeyHint:
    """Keys under one word, and the actions a click on each of them runs."""

    keys: tuple[str, ...]
    word: str
    actions: tuple[str, ...]
    enabled: bool

    @property
    def text(self) -> str:
        """As it is shown, without the word."""
        return "".join(self.keys)

    @property
    def cells(self) -> int:
        """Its width with the space behind it."""
        return cell_len(self.text) + 1 + cell_len(self.word) + 2


class KeyBar(Widget):
    """Rows of keys; a click runs the action."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-bar--key", "key-bar--word", "key-bar--off"}
    DEFAULT_CSS = """
    KeyBar {
        height: 1;
        background: $panel;
        .key-bar--key { color: $accent; text-style: bold; }
        .key-bar--word { color: $foreground 75%; }
        .key-bar--off { color: $foreground 35%; }
    }
    """
    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._hints: list[KeyHint] = []

    def on_mount(self) -> None:
        """Follow the bindings of the screen."""
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)
        self._bindings_changed(self.screen)

    def _bindings_changed(self, screen: Screen[object]) -> None:
        hints = list(key_hints(screen))
        if hints != self._hints:
            self._hints = hints
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of hints."""
        rows = self._rows()
        segments: list[Segment] = []
        for hint in rows[y] if y < len(rows) else ():
            key, word = ("key-bar--key", "key-bar--word") if hint.enabled else ("key-bar--off", "key-bar--off")
            segments.append(Segment(hint.text, self.get_component_rich_style(key)))
            segments.append(Segment(f" {hint.word}  ", self.get_component_rich_style(word)))
        return Strip(segments).adjust_cell_length(self.size.width, self.rich_style)

    async def on_click(self, event: events.Click) -> None:
        """Run the action under the pointer; the second of two keys if the pointer is on it."""
        rows = self._rows()
        x = event.x
        for hint in rows[event.y] if event.y < len(rows) else ():
            if x < hint.cells:
                place = x if len(hint.text) == len(hint.actions) and x < len(hint.text) else 0
                await self.screen.run_action(hint.actions[place])
                return
            x -= hint.cells

    def _rows(self) -> list[list[KeyHint]]:
        return fitting(self._hints, self.size.width, self.size.height)


def key_hints(screen: Screen[object]) -> Iterable[KeyHint]:
    """The shown bindings of a screen, grouped, in the order in which they were declared."""
    groups: dict[str, list[tuple[str, str, bool]]] = {}
    for _node, binding, enabled, _tooltip in screen.active_bindings.values():
        if not binding.show or binding.system:
            continue
        word = binding.group.description if binding.group is not None else binding.description
        key = screen.app.get_key_display(binding)
        members = groups.setdefault(word, [])
        # Of several keys for one action the first is shown; help names them all.
        if all(binding.action != known for _, known, _ in members):
            members.append((key, binding.action, enabled))
    order = {word: place for place, word in enumerate(ORDER)}
    for word, members in sorted(groups.items(), key=lambda item: order.get(item[0], len(order))):
        keys, actions, enabled_flags = zip(*members, strict=True)
        yield KeyHint(keys, word, actions, any(enabled_flags))


def fitting(hints: list[KeyHint], width: int, height: int) -> list[list[KeyHint]]:
    """The hints in as many rows as there are; the way out is kept in the last one, the rest as far as they fit."""
    way_out = [hint for hint in hints if hint.word in ALWAYS]
    others = [hint for hint in hints if hint.word not in ALWAYS]
    rows: list[list[KeyHint]] = []
    for y in range(height):
        last = y == height - 1
        room = width + 2 - (sum(hint.cells for hint in way_out) if last else 0)
        row: list[KeyHint] = []
        while others and others[0].cells <= room:
            row.append(others.pop(0))
            room -= row[-1].cells
        rows.append(row + way_out if last else row)
    return rows
