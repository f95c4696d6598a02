"""The GPUs: one line or two each, with as many columns as the width allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from tui.formatting import DASH, clock_text, fit, fit_right, gibibytes, shorten, span, whole
from tui.glyphs import bar, history
from tui.plotting import TimeGrid
from tui.throttle import throttle_words
from tui.widgets.lines import LineWidget, Piece, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot
    from tui.track import Track

HISTORY_S = 60.0
"""Span of the small history of each GPU."""


@dataclass(frozen=True, slots=True)
class GpuColumn:
    """One column of the wall.

    Attributes:
        head: Heading.
        width: Cells it needs.
        rank: Columns of higher rank are left out first when there is no room.
        cell: Text and ink for a GPU.
        sources: Sample columns it is made of; one of high rank is left out when no GPU tells them.
    """

    head: str
    width: int
    rank: int
    cell: Callable[[Track, Glyphs, int], Piece]
    sources: tuple[str, ...] = ()


def _percent_cell(column: str, bar_cells: int = 0) -> Callable[[Track, Glyphs, int], Piece]:
    def cell(gpu: Track, glyphs: Glyphs, width: int) -> Piece:
        value = gpu.value(column)
        text = fit_right(whole(value), width - bar_cells)
        ink = "dim" if not value >= 1 else "ok" if value >= 60 else ""
        return (bar(glyphs, value / 100, bar_cells - 1) + " " if bar_cells else "") + text, ink

    return cell


def _memory(gpu: Track, glyphs: Glyphs, width: int) -> Piece:
    used, total = gpu.value("mem_used_bytes"), _info_number(gpu, "memory_bytes")
    ratio = used / total if total else math.nan
    ink = "bad" if ratio > 0.985 else "" if ratio >= 0.1 else "dim"
    return fit_right(_of(gibibytes(used), gibibytes(total)), width), ink


def _power(gpu: Track, glyphs: Glyphs, width: int) -> Piece:
    power, limit = gpu.value("power_w"), gpu.value("power_limit_w")
    ink = "warn" if power >= 0.97 * limit else ""
    return fit_right(_of(whole(power), whole(limit)), width), ink


def _clock(gpu: Track, glyphs: Glyphs, width: int) -> Piece:
    clock, top = gpu.value("sm_clock_mhz"), gpu.value("max_sm_clock_mhz")
    lowered = gpu.value("util_pct") >= 50 and clock < 0.93 * top
    return fit_right(_of(whole(clock), whole(top)), width), "warn" if lowered else ""


def _of(value: str, limit: str) -> str:
    return value if DASH in (value, limit) else f"{value}/{limit}"


def _temperature(gpu: Track, glyphs: Glyphs, width: int) -> Piece:
    celsius = gpu.value("temp_c")
    return fit_right(whole(celsius), width), "bad" if celsius >= 88 else "warn" if celsius >= 80 else ""


def _gigabytes(*columns: str) -> Callable[[Track, Glyphs, int], Piece]:
    def cell(gpu: Track, glyphs: Glyphs, width: int) -> Piece:
        value = sum(gpu.value(column) for column in columns)
        return fit_right(f"{value / 1e9:.1f}" if math.isfinite(value) else whole(value), width), "dim"

    return cell


def _name(gpu: Track, glyphs: Glyphs, width: int) -> Piece:
    return fit(gpu.place, width), "strong"


_PCIE = ("pcie_tx_bytes_s", "pcie_rx_bytes_s")
_NVLINK = ("nvlink_tx_bytes_s", "nvlink_rx_bytes_s")
_OPTIONAL_RANK = 7

COLUMNS: tuple[GpuColumn, ...] = (
    GpuColumn("gpu", 3, 0, _name),
    GpuColumn("util %", 13, 0, _percent_cell("util_pct", 9)),
    GpuColumn("SM %", 4, 7, _percent_cell("sm_active_pct"), ("sm_active_pct",)),
    GpuColumn("tensor %", 8, 1, _percent_cell("tensor_active_pct")),
    GpuColumn("DRAM %", 6, 1, _percent_cell("dram_active_pct")),
    GpuColumn("mem GiB", 7, 2, _memory),
    GpuColumn("power W", 7, 2, _power),
    GpuColumn("SM MHz", 9, 3, _clock),
    GpuColumn("°C", 2, 4, _temperature),
    GpuColumn("PCIe GB/s", 9, 8, _gigabytes(*_PCIE), _PCIE),
    GpuColumn("NVLink GB/s", 11, 8, _gigabytes(*_NVLINK), _NVLINK),
)
"""All columns, in the order they are shown."""

_REASON_CELLS = 12
_MIN_HISTORY_CELLS = 10


class GpuWall(LineWidget):
    """One row per GPU; two when there is room: numbers, and a history below them."""

    DEFAULT_CSS = """
    GpuWall { height: auto; }
    """

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """Heading and rows of the GPUs, or the reason why there is none."""
        return gpu_rows(snapshot, width, height, self.glyphs)


def gpu_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The wall as rows: a heading, then one or two rows per GPU."""
    if not snapshot.gpus:
        note = snapshot.facts.gpu_note or _gpu_event(snapshot) or "no GPU is sampled in this session"
        return [((shorten(note, width), "dim"),)]
    told = [column for column in COLUMNS if column.rank < _OPTIONAL_RANK or _is_told(snapshot, column)]
    columns, rest = _choose(told, width)
    reason = min(rest, max(_REASON_CELLS, rest // 3))
    history = rest - reason - 1 if rest - reason - 1 >= _MIN_HISTORY_CELLS else 0
    heading = " ".join(fit_right(c.head, c.width) if place else fit(c.head, c.width) for place, c in enumerate(columns))
    heading += " " + fit("slowed by", reason) + (" " + fit(_history_head(history), history) if history else "")
    room = height - 1
    rows: list[Row] = [((fit(heading, width), "dim"),)]
    shown = snapshot.gpus if len(snapshot.gpus) <= room else snapshot.gpus[: max(0, room - 1)]
    tall = len(shown) * 2 <= room and width >= 100
    for gpu in shown:
        rows.append(_gpu_row(gpu, columns, reason, history, glyphs, snapshot.fresh))
        if tall:
            rows.append(_detail_row(gpu, width, glyphs))
    if len(shown) < len(snapshot.gpus):
        rows.append(((f"... and {len(snapshot.gpus) - len(shown)} more: make the terminal taller", "dim"),))
    return rows


def wanted_height(gpus: int, width: int, height: int) -> int:
    """Rows the wall should get on a screen of this size."""
    if gpus == 0:
        return 1
    two_each = width >= 100 and gpus * 2 + 1 <= height // 4
    return min(gpus * (2 if two_each else 1) + 1, max(3, height // 2 - 2))


def _is_told(snapshot: Snapshot, column: GpuColumn) -> bool:
    return any(math.isfinite(gpu.value(name)) for gpu in snapshot.gpus for name in column.sources)


def _choose(columns: list[GpuColumn], width: int) -> tuple[list[GpuColumn], int]:
    """The columns that fit, and the cells left for the reason and the history."""
    kept = columns
    for rank in sorted({column.rank for column in columns}, reverse=True):
        left = width - sum(column.width + 1 for column in kept)
        if left >= _REASON_CELLS + (_MIN_HISTORY_CELLS if rank > 4 else 0):
            break
        if rank:
            kept = [column for column in kept if column.rank < rank]
    return kept, max(0, width - sum(column.width + 1 for column in kept))


def _gpu_row(
    gpu: Track, columns: list[GpuColumn], reason_cells: int, history_cells: int, glyphs: Glyphs, fresh: bool
) -> Row:
    pieces: list[Piece] = []
    for column in columns:
        text, ink = column.cell(gpu, glyphs, column.width)
        pieces.append((f"{text} ", ink if fresh else "dim"))
    reason, ink = _reason(gpu)
    pieces.append((fit(shorten(reason, reason_cells), reason_cells), ink if fresh else "dim"))
    if history_cells:
        pieces.append((" " + history_text(gpu, "util_pct", 100.0, history_cells, glyphs), "first" if fresh else "dim"))
    return tuple(pieces)


def _reason(gpu: Track) -> Piece:
    if gpu.newest is None:
        return "no sample", "dim"
    if gpu.stale:
        return f"silent {span(gpu.age_ns / NS_PER_S)}", "warn"
    return throttle_words(gpu.value("throttle_mask"))


def _detail_row(gpu: Track, width: int, glyphs: Glyphs) -> Row:
    """Name of the product, and the histories of what usually limits, side by side."""
    shown = (("tensor", "tensor_active_pct", 100.0), ("DRAM", "dram_active_pct", 100.0), ("power", "power_w", 0.0))
    name = fit("    " + str(gpu.info.get("name", "")), 30)
    cells = max(6, (width - 30) // len(shown) - 9)
    pieces: list[Piece] = [(name, "dim")]
    for label, column, top in shown:
        full = top or gpu.value("power_limit_w")
        pieces.append((fit_right(label, 7) + " ", "dim"))
        pieces.append((history_text(gpu, column, full, cells, glyphs) + " ", "second"))
    return tuple(pieces)


def history_text(gpu: Track, column: str, top: float, cells: int, glyphs: Glyphs) -> str:
    """The last minute of a column, one cell per slice of time; each cell shows the highest value of its slice."""
    place = gpu.columns.get(column)
    if place is None or not top > 0:
        return " " * cells
    slice_ns = round(HISTORY_S * NS_PER_S / cells)
    # Cells stand on a fixed grid of time, so that a history moves by whole cells and does not flicker.
    grid = TimeGrid(gpu.at_ns // slice_ns - cells + 1, slice_ns, cells)
    edges = grid.edges(gpu.times_ns)
    told = [sample.values[place] for sample in gpu.samples[edges[0] : edges[-1]]]
    known = [value if value == value else -math.inf for value in told]
    places = [edge - edges[0] for edge in edges]
    return history(glyphs, [max(known[start:end], default=-math.inf) / top for start, end in pairwise(places)])


def _history_head(cells: int) -> str:
    return f"util, last {clock_text(HISTORY_S * NS_PER_S)}" if cells >= 18 else "last 60 s"


def _info_number(gpu: Track, key: str) -> float:
    value = gpu.info.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _gpu_event(snapshot: Snapshot) -> str:
    return next((event.text for event in snapshot.events if event.text.startswith("no GPU")), "")
