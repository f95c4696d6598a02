"""The server's iterations as it told them: what each held, and how long it took."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tui.formatting import clock_text, fit_right, number, whole
from tui.widgets.lines import Row, title_row

if TYPE_CHECKING:
    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot

_COLUMNS: tuple[tuple[str, str, float], ...] = (
    ("iteration ms", "iteration_ms", 1.0),
    ("GPU ms", "gpu_step_ms", 1.0),
    ("scheduled", "scheduled", 1.0),
    ("prefill", "context_requests", 1.0),
    ("decode", "generation_requests", 1.0),
    ("prefill tokens", "context_tokens", 1.0),
    ("accepted/step", "accepted_per_step", 1.0),
    ("running", "running", 1.0),
    ("waiting", "waiting", 1.0),
    ("paused", "paused", 1.0),
    ("queue ms", "queue_ms", 1.0),
    ("KV %", "kv_used_ratio", 100.0),
    ("iterations", "iterations_total", 1.0),
)
"""Heading, column and scale, most telling first; columns that nobody tells are left out."""


def iteration_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The readings up to the moment, the newest last."""
    engine = snapshot.engine
    head = title_row("iterations", width, glyphs, ("each row is one reading of the server's own numbers", "dim"))
    if engine is None or not engine.samples:
        return [head, (("the server tells nothing about its iterations here", "dim"),)]
    samples = engine.samples[-max(1, height - 2) :]
    told = []
    room = width - 10
    for heading, column, scale in _COLUMNS:
        place = engine.columns.get(column)
        cells = len(heading) + 2
        if place is None or cells > room or not any(math.isfinite(sample.values[place]) for sample in samples):
            continue
        told.append((heading, place, scale, cells))
        room -= cells
    heading_text = fit_right("time", 9) + "".join(fit_right(heading, cells) for heading, _, _, cells in told)
    rows: list[Row] = [head, ((heading_text, "dim"),)]
    for sample in samples:
        newest = sample is samples[-1]
        cells_text = "".join(
            fit_right(_shown(sample.values[place] * scale, heading), cells) for heading, place, scale, cells in told
        )
        rows.append(((fit_right(clock_text(sample.t_ns), 9), "dim"), (cells_text, "strong" if newest else "")))
    return rows


def _shown(value: float, heading: str) -> str:
    return number(value) if "ms" in heading or "accepted" in heading else whole(value)
