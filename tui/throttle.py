"""NVML's clock-event reasons in words and tones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.throttle import reasons_in

if TYPE_CHECKING:
    from tui.snapshot import Tone

_TONES: dict[int, Tone] = {0x40: "bad", 0x20: "bad", 0x80: "bad", 0x08: "bad", 0x04: "warn"}
"""How bad a reason is; the others are as somebody wished."""


def throttle_words(mask: float) -> tuple[str, Tone]:
    """Why a GPU runs slower than it could, worst reason first; `–` when it does not say."""
    if mask != mask:
        return "–", "dim"
    named = reasons_in(mask)
    if not named:
        return "nothing", "dim"
    return ", ".join(words for _, words in named), _TONES.get(named[0][0], "dim")
