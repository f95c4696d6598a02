"""One GPU, everything that is sampled of it over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import GIB, gibibytes
from tui.plotting import Plot, PlotSeries
from tui.throttle import throttle_words
from tui.widgets.lines import Row, title_row
from tui.widgets.plot_grid import grid_rows

if TYPE_CHECKING:
    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot
    from tui.track import Track

_LINES: tuple[tuple[str, tuple[tuple[str, str, float], ...], float | None], ...] = (
    ("busy %", (("util", "util_pct", 1.0), ("SM", "sm_active_pct", 1.0)), 100.0),
    ("pipes %", (("tensor", "tensor_active_pct", 1.0), ("DRAM", "dram_active_pct", 1.0)), 100.0),
    ("power W", (("drawn", "power_w", 1.0), ("limit", "power_limit_w", 1.0)), None),
    ("SM clock MHz", (("now", "sm_clock_mhz", 1.0), ("highest", "max_sm_clock_mhz", 1.0)), None),
    ("memory GiB", (("used", "mem_used_bytes", 1 / GIB),), None),
    ("temperature C", (("core", "temp_c", 1.0),), None),
    ("PCIe GB/s", (("out", "pcie_tx_bytes_s", 1e-9), ("in", "pcie_rx_bytes_s", 1e-9)), None),
    ("NVLink GB/s", (("out", "nvlink_tx_bytes_s", 1e-9), ("in", "nvlink_rx_bytes_s", 1e-9)), None),
)
"""Plots: heading, lines as label, column and scale, and the top of the scale."""

_INKS = ("first", "second")


def gpu_detail_rows(snapshot: Snapshot, place: int, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """Facts of the GPU, why it is slowed, and its plots."""
    if not snapshot.gpus:
        return [title_row("GPU", width, glyphs), ((snapshot.facts.gpu_note or "no GPU is sampled here", "dim"),)]
    gpu = snapshot.gpus[place % len(snapshot.gpus)]
    facts = "  ".join(
        str(told)
        for told in (
            gpu.info.get("name", ""),
            _memory(gpu),
            gpu.info.get("uuid", ""),
            f"on {gpu.info['host']}" if gpu.info.get("host") else "",
            f"by {gpu.info['source']}" if gpu.info.get("source") else "",
        )
        if told
    )
    reason, ink = throttle_words(gpu.value("throttle_mask"))
    which = f"GPU {gpu.place} of {len(snapshot.gpus)}"
    rows: list[Row] = [title_row(which, width, glyphs, (facts, "dim")), (("slowed by ", "dim"), (reason, ink))]
    notes = gpu.info.get("notes")
    if isinstance(notes, list) and notes:
        rows.append((("  ".join(str(note) for note in notes), "dim"),))
    return rows + grid_rows(_plots(snapshot, gpu), width, height - len(rows), glyphs)


def _plots(snapshot: Snapshot, gpu: Track) -> list[Plot]:
    plots = []
    for title, lines, top in _LINES:
        series = tuple(
            PlotSeries(label, ink, *gpu.series(column, scale))
            for (label, column, scale), ink in zip(lines, _INKS, strict=False)
        )
        if any(value == value for line in series for value in line.values):
            plots.append(Plot(title, series, snapshot.window_ns, top=top))
    return plots


def _memory(gpu: Track) -> str:
    told = gpu.info.get("memory_bytes")
    return f"{gibibytes(float(told))} GiB" if isinstance(told, int | float) else ""
