"""Numbers, spans and moments as short text for a person."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size

from sessions.clock import NS_PER_S
from sessions.figures import DASH as DASH
from sessions.figures import number as number
from sessions.figures import percent as percent
from sessions.figures import whole as whole

GIB = 2**30


def milliseconds(value: float | None) -> str:
    """A latency: milliseconds, or seconds from ten on."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value / 1000:.1f} s" if value >= 10_000 else f"{number(value)} ms"


def gibibytes(value: float) -> str:
    """Bytes in GiB, without the unit."""
    if not math.isfinite(value):
        return DASH
    return f"{value / GIB:.0f}" if value >= 10 * GIB else f"{value / GIB:.1f}"


def clock_text(t_ns: float) -> str:
    """A moment of the session as h:mm:ss or mm:ss."""
    seconds = int(t_ns // NS_PER_S)
    hours, rest = divmod(max(0, seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    if not math.isfinite(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def utc_text(utc_ns: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A UTC time; a dash when it is not known."""
    if utc_ns <= 0 or utc_ns > 253_402_300_799 * NS_PER_S:
        return DASH
    return datetime.fromtimestamp(utc_ns / NS_PER_S, UTC).strftime(form)


def value_text(value: object) -> str:
    """The value of a knob."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def fit(text: str, width: int) -> str:
    """Text in exactly `width` terminal cells, cut or padded at its right."""
    if width <= 0:
        return ""
    if text.isascii():
        return text[:width].ljust(width)
    return set_cell_size(text, width)


def fit_right(text: str, width: int) -> str:
    """Text in exactly `width` terminal cells, padded at its left."""
    if width <= 0:
        return ""
    cells = len(text) if text.isascii() else cell_len(text)
    return " " * (width - cells) + text if cells <= width else fit(text, width)


def shorten(text: str, width: int) -> str:
    """Text in at most `width` cells; a longer one ends in two dots."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    return fit(text, max(0, width - 2)) + ".." if width > 4 else fit(text, width)


def short_name(name: str) -> str:
    """The last part of a dotted knob name: what a person needs in a narrow column."""
    return name.rsplit(".", 1)[-1]


_SHORT_METRICS = {
    "ttft": "TTFT",
    "itl": "ITL",
    "icl": "ICL",
    "tpot": "TPOT",
    "e2e": "E2E",
    "output_token_throughput": "output",
    "total_token_throughput": "in and out",
    "request_throughput": "",
}


def metric_label(metric: str, stat: str, unit: str) -> str:
    """A metric with its statistic and unit, as a row of a table names it."""
    name = _SHORT_METRICS.get(metric, metric.replace("_", " "))
    words = (name, "" if stat in ("", "avg") else stat, "" if unit == "ratio" else unit)
    return " ".join(word for word in words if word)
