"""The optimisation history: the score of each trial, and the best so far as a staircase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.summary import may_be_best
from tui.canvas import Canvas, dots
from tui.formatting import fit_right, number, shorten
from tui.plotting import AXIS_CELLS, nice_top
from tui.trial_rows import score_label
from tui.widgets.lines import Row, title_row

if TYPE_CHECKING:
    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot


def history_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The plot as rows; trials without a score stand at the bottom with the sign of their state."""
    objective = snapshot.facts.objective
    legend = ((glyphs.star, "best"), ("best so far", "second"), ("x no score", "bad"))
    rows: list[Row] = [title_row(f"history {score_label(objective)}", width, glyphs, *legend)]
    cells_x, cells_y = width - AXIS_CELLS, height - 2
    trials = snapshot.trials
    if not trials or cells_x < 4 or cells_y < 2:
        return [*rows, ((shorten("no trial yet", width), "dim"),)][: max(1, height)]
    scores = [trial.score for trial in trials if trial.score is not None]
    top = nice_top(max(scores, default=1.0) * 1.02)
    canvas = Canvas(cells_x, cells_y, glyphs)
    layer = canvas.layer("second")
    span = max(len(trials) - 1, 7)
    best: float | None = None
    before: tuple[int, int] | None = None
    for place, trial in enumerate(trials):
        cell = place * (cells_x - 1) // span
        improved = False
        if may_be_best(trial) and trial.score is not None and (best is None or objective.better(trial.score, best)):
            best, improved = trial.score, True
        if best is not None:
            before = _staircase(layer, before, (cell * glyphs.dots_x, _height(best, top, canvas)))
        if trial.score is not None:
            sign, ink = (glyphs.star, "best") if improved else ("o", "first" if trial.feasible else "warn")
            canvas.sign(cell, _height(trial.score, top, canvas), sign, ink)
        elif trial.end_ns is not None:
            sign, ink = _SIGNS.get(trial.state, ("-", "dim"))
            canvas.sign(cell, 0, sign, ink)
    labels = {0: number(top), cells_y - 1: "0"}
    rows += [((fit_right(labels.get(y, ""), AXIS_CELLS - 1) + " ", "dim"), *row) for y, row in enumerate(canvas.rows())]
    last = str(trials[-1].number)
    end = min(cells_x, (len(trials) - 1) * (cells_x - 1) // span + 1)
    rows.append(
        ((" " * AXIS_CELLS + f"{trials[0].number}{last:>{max(1, end - 1)}}" if len(trials) > 1 else "", "dim"),)
    )
    return rows


_SIGNS = {"failed": ("x", "bad"), "infeasible": ("!", "warn"), "pruned": ("-", "dim"), "skipped": ("s", "dim")}


def _height(value: float, top: float, canvas: Canvas) -> int:
    return round(min(1.0, max(0.0, value / top)) * (canvas.dots_y - 1))


def _staircase(layer: list[int], before: tuple[int, int] | None, now: tuple[int, int]) -> tuple[int, int]:
    if before is not None:
        for x in range(before[0], now[0]):
            layer[x] |= dots(before[1], before[1])
        layer[now[0]] |= dots(min(before[1], now[1]), max(before[1], now[1]))
    return now
