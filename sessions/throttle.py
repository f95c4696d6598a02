"""Which of NVML's clock-event reasons mean what (contract gpu_telemetry section 2)."""

from __future__ import annotations

THERMAL_BITS = 0x40 | 0x20
POWER_CAP_BIT = 0x04

REASONS: tuple[tuple[int, str], ...] = (
    (0x40, "hot (hardware)"),
    (0x20, "hot (software)"),
    (0x80, "power brake"),
    (0x08, "hardware slowdown"),
    (0x04, "power cap"),
    (0x10, "sync boost"),
    (0x02, "clocks set by hand"),
    (0x100, "display clocks"),
    (0x01, "idle"),
)
"""Bit and words, the most serious first."""


def reasons_in(mask: float) -> tuple[tuple[int, str], ...]:
    """The reasons that a mask names, the most serious first; none when the mask is unknown or no mask at all."""
    bits = int(mask) if mask == mask and 0 <= mask < 1 << 62 else 0
    return tuple(reason for reason in REASONS if bits & reason[0])


def has_reason(mask: float, bits: int) -> bool:
    """Whether any of the bits is set."""
    return mask == mask and 0 <= mask < 1 << 62 and bool(int(mask) & bits)
