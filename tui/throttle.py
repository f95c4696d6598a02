"""NVML's clock-event reasons in words (contracts: gpu_telemetry section 2, `nvmlDeviceGetCurrentClocksEventReasons`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.snapshot import Tone


@dataclass(frozen=True, slots=True)
class ThrottleReason:
    """One bit of the mask, the word for it, and how bad it is."""

    bit: int
    words: str
    tone: Tone


REASONS: tuple[ThrottleReason, ...] = (
    ThrottleReason(0x40, "hot (hardware)", "bad"),
    ThrottleReason(0x20, "hot (software)", "bad"),
    ThrottleReason(0x80, "power brake", "bad"),
    ThrottleReason(0x08, "hardware slowdown", "bad"),
    ThrottleReason(0x04, "power cap", "warn"),
    ThrottleReason(0x10, "sync boost", "dim"),
    ThrottleReason(0x02, "clocks set by hand", "dim"),
    ThrottleReason(0x100, "display clocks", "dim"),
    ThrottleReason(0x01, "idle", "dim"),
)
"""Most serious first."""

THERMAL_BITS = 0x40 | 0x20
POWER_CAP_BIT = 0x04


def throttle_words(mask: float) -> tuple[str, Tone]:
    """Why a GPU runs slower than it could, worst reason first; `–` when it does not say."""
    if mask != mask:
        return "–", "dim"
    bits = int(mask) if 0 <= mask < 1 << 62 else 0
    named = [reason for reason in REASONS if bits & reason.bit]
    if not named:
        return "nothing", "dim"
    return ", ".join(reason.words for reason in named), named[0].tone


def has_reason(mask: float, bits: int) -> bool:
    """Whether any of the bits is set."""
    return mask == mask and 0 <= mask < 1 << 62 and bool(int(mask) & bits)
