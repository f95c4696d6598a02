"""Keys as data: every binding has the name it is shown under, by which the user's file may give it another key."""

from __future__ import annotations

import re

from textual.binding import Binding

SIGNS = {
    "question_mark": "?",
    "slash": "/",
    "left": "←",
    "right": "→",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "left_parenthesis": "(",
    "right_parenthesis": ")",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "minus": "-",
    "plus": "+",
    "comma": ",",
    "full_stop": ".",
    "space": "space",
}
"""How keys are shown that have long names."""


TEXTUAL_ACTIONS = ("app.focus_next", "app.focus_previous", "screen.copy_text")
"""Actions that Textual adds to every screen and that nobody looks for here."""


def key(
    keys: str,
    action: str,
    word: str,
    tooltip: str = "",
    *,
    group: Binding.Group | None = None,
    show: bool = True,
    priority: bool = False,
) -> Binding:
    """A binding whose id is made of the word it is shown under.

    Args:
        keys: Textual's names of the keys, the first of them shown.
        action: What it runs.
        word: Shown beside the key, and the name by which it can be given another key.
        tooltip: Shown in help and palette.
        group: Bindings shown under one word.
        show: Whether the key bar shows it.
        priority: Whether it works while something else has the focus.
    """
    sign = SIGNS.get(keys.split(",")[0])
    return Binding(
        keys,
        action,
        word,
        show=show,
        key_display=sign,
        priority=priority,
        tooltip=tooltip,
        id=binding_id(word),
        group=group,
    )


def binding_id(word: str) -> str:
    """The id of a binding shown under a word."""
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
