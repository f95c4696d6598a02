"""Scales of charts: from values to shares of a side, with ticks at round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAST, _MOST = 1e-90, 1e90
"""Sizes between which scales are told apart: nothing that is measured lies outside, a stranger's numbers may."""

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Scale:
    """A side of a chart.

    Attributes:
        low: Value at its beginning.
        high: Value at its end.
        ticks: Values that are labelled.
        log: Whether it is logarithmic.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the beginning and 1 at the end; what is outside lies at the edge."""
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)


def linear_scale(values: Sequence[float], ticks: int, zero: bool) -> Scale:
    """A scale that holds the values, from 0 if wanted, with about as many ticks; beyond `_MOST` they lie at the edge."""
    told = [min(max(value, -_MOST), _MOST) for value in values]
    low, high = (min(told), max(told)) if told else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= max(abs(high) * 1e-9, _LEAST):
        room = abs(high) * 0.1 if abs(high) > _LEAST else 1.0
        low, high = (low if zero and low == 0 else low - room), high + room
    step = _round_step((high - low) / max(ticks, 1))
    first, last = math.floor(low / step), math.ceil(high / step)
    return Scale(first * step, last * step, tuple(place * step for place in range(first, last + 1)))


def log_scale(values: Sequence[float], ticks: int, zero: bool) -> Scale:
    """A logarithmic scale that holds the positive values; ticks are the values themselves when there are few."""
    known = sorted({value for value in values if _LEAST < value < _MOST})
    if not known:
        return linear_scale(values, ticks, zero)
    low, high = known[0], known[-1]
    if high <= low * 1.0001:
        return Scale(low / 2, high * 2, (low,), log=True)
    room = (high / low) ** 0.04
    if len(known) <= ticks:
        return Scale(low / room, high * room, tuple(known), log=True)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [base * 10.0**decade for decade in decades for base in (1, 2, 5)]
    shown = [mark for mark in marks if low / room <= mark <= high * room]
    if len(shown) > 2 * ticks:
        shown = [mark for mark in shown if math.log10(mark).is_integer()]
    return Scale(low / room, high * room, tuple(shown) or (low, high), log=True)


def _round_step(step: float) -> float:
    size = 10.0 ** math.floor(math.log10(step))
    return next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= step * 0.999)


def short(value: float) -> str:
    """A number in a few characters."""
    if not math.isfinite(value):
        return "–"
    for size, prefix in _PREFIXES:
        if abs(value) >= size * 10 or (size > 1e3 and abs(value) >= size):
            return f"{value / size:.3g}{prefix}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
