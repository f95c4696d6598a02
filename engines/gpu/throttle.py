"""Why a GPU's clock is lower than it could be: NVML's clock-event bits in words (contract gpu_telemetry 2)."""

from __future__ import annotations

import math

IDLE = 0x1

REASONS = (
    (IDLE, "idle"),
    (0x2, "application clocks"),
    (0x4, "power cap"),
    (0x8, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x20, "software thermal limit"),
    (0x40, "hardware thermal limit"),
    (0x80, "power brake"),
    (0x100, "display clocks"),
    (0x200, "board limit"),
    (0x400, "reliability limit"),
)


def throttle_words(mask: float) -> str:
    """Names of the bits set, joined with commas; empty when none is set or the mask is NaN.

    Unknown bits are shown as a number, so that a newer driver's reason is not lost.
    """
    if math.isnan(mask) or mask < 0:
        return ""
    bits = int(mask)
    words = [word for bit, word in REASONS if bits & bit]
    known = sum(bit for bit, _ in REASONS)
    if unknown := bits & ~known:
        words.append(f"reason {unknown:#x}")
    return ", ".join(words)


def is_throttled(mask: float) -> bool:
    """Whether anything but idleness holds the clock down."""
    return not math.isnan(mask) and bool(int(mask) & ~IDLE)
