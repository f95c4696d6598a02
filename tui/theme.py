"""The colours of the screen: green is well, amber wants a look, red is wrong; blue, cyan and violet only tell lines apart."""

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
"""Near the colours of a plain terminal, so that it survives 16 of them; others are in the command palette."""
