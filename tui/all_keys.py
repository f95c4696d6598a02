"""The names of all keys, which takes loading every screen: only who changes keys pays for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding

from tui.app import TrtuneApp
from tui.screens.compare import CompareScreen
from tui.screens.inspect import InspectScreen
from tui.screens.live import LiveScreen
from tui.screens.log import LogScreen
from tui.screens.sessions import SessionsScreen
from tui.screens.setup import SetupScreen
from tui.screens.tune import TuneScreen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OWNERS = (LiveScreen, TuneScreen, SessionsScreen, LogScreen, InspectScreen, CompareScreen, SetupScreen)


def all_binding_ids() -> set[str]:
    """The names by which keys can be changed."""
    return {binding.id for owner in OWNERS for binding in _bindings(owner) if binding.id is not None}


def lost_keys(keymap: Mapping[str, str]) -> list[str]:
    """Names whose key another name is given, on some screen, a line each.

    Args:
        keymap: Keys by name.
    """
    lost: dict[str, None] = {}
    for owner in OWNERS:
        taken: dict[str, str] = {}
        for binding in sorted(_bindings(owner), key=lambda each: each.id not in keymap):
            name = binding.id or ""
            for key in keymap.get(name, binding.key).split(","):
                other = taken.setdefault(key.strip(), name)
                if other != name and other in keymap:
                    lost[f"{key.strip()} is {other} now: {name} has no key (ctrl+p reaches it)"] = None
    return list(lost)


def _bindings(owner: type) -> Iterator[Binding]:
    """Bindings of a screen, its bases and the application, the nearest first; a name counts once."""
    seen: set[str] = set()
    for base in (*owner.__mro__, TrtuneApp):
        for binding in base.__dict__.get("BINDINGS", ()):
            if isinstance(binding, Binding) and binding.id is not None and binding.id not in seen:
                seen.add(binding.id)
                yield binding
