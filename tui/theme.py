"""The colours of the screen: green is well, amber wants a look, red is wrong; blue, cyan and violet only tell lines apart.

Nothing is told by colour alone: every state has a letter, every line of a plot is named in its heading.
"""

from __future__ import annotations

from textual.theme import Theme

TRTUNE_THEME = Theme(
    name="trtune",
    primary="#6c9cff",
    secondary="#c58bff",
    accent="#56d4dd",
    success="#6bc46d",
    warning="#f0b429",
    error="#ff6b6b",
    foreground="#d3d9e0",
    background="#0f1419",
    surface="#141a21",
    panel="#1c2530",
    dark=True,
)
"""Near the colours of a plain terminal, so that it survives 16 of them."""

LIGHT_THEME = Theme(
    name="trtune-light",
    primary="#1f4fbf",
    secondary="#7a3fb0",
    accent="#006d77",
    success="#1b7a2f",
    warning="#8a5a00",
    error="#b3261e",
    foreground="#1c2128",
    background="#fbfbf9",
    surface="#f2f2ee",
    panel="#e6e7e2",
    dark=False,
)

CONTRAST_THEME = Theme(
    name="trtune-contrast",
    primary="#8fb8ff",
    secondary="#ff9dff",
    accent="#00ffff",
    success="#00ff5f",
    warning="#ffff00",
    error="#ff5f5f",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#202020",
    dark=True,
    variables={"primary-muted": "#3a3a3a"},
)
"""White on black; every colour at least 7:1 against the background (WCAG AAA)."""

COLOUR_BLIND_THEME = Theme(
    name="trtune-colour-blind",
    primary="#56b4e9",
    secondary="#cc79a7",
    accent="#f0e442",
    success="#56b4e9",
    warning="#e69f00",
    error="#d55e00",
    foreground="#e8e8e8",
    background="#101214",
    surface="#15181b",
    panel="#1f2429",
    dark=True,
)
"""Okabe and Ito's palette: well is blue and wrong is vermilion, which no common colour blindness confuses."""

THEMES = (TRTUNE_THEME, LIGHT_THEME, CONTRAST_THEME, COLOUR_BLIND_THEME)
