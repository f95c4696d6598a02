"""Numbers as short text for a person, wherever they are shown."""

from __future__ import annotations

import math

DASH = "–"
"""Stands for a number that is not known."""

_SMALL = 0.1

_SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 3) -> str:
    """About `digits` significant digits, with k, M or G above 10,000."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if size >= 10_000:
        for factor, suffix in _SUFFIXES:
            if size >= factor:
                return f"{_plain(value / factor, digits)}{suffix}"
    return _plain(value, digits)


def _plain(value: float, digits: int) -> str:
    size = abs(value)
    if value == 0:
        return "0"  # not -0
    if size >= 10 ** (digits - 1):
        return f"{value:.0f}"
    if size < _SMALL:  # with two decimals the joules or the costs of a token would all look alike
        decimals = min(digits - 2 - math.floor(math.log10(size)), digits + (value > 0))
        text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
        return "0" if text == "-0" else text
    decimals = digits - 1 - max(0, math.floor(math.log10(size))) if size >= 1 else digits - 1
    return f"{value:.{decimals}f}"


def percent(ratio: float | None, *, signed: bool = False) -> str:
    """A ratio in per cent, without decimals from 10 % on."""
    if ratio is None or not math.isfinite(ratio):
        return DASH
    value = ratio * 100
    decimals = 0 if abs(value) >= 9.95 or value == 0 else 1
    return f"{value:+.{decimals}f} %" if signed else f"{value:.{decimals}f} %"


def whole(value: float) -> str:
    """A number without decimals."""
    return f"{value:.0f}" if math.isfinite(value) else DASH
