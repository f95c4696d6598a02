"""The Pareto front: what no other measurement beats in every objective."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tui.canvas import Canvas, dots
from tui.formatting import fit_right, number, shorten
from tui.plotting import AXIS_CELLS, nice_top
from tui.trial_rows import metric_value
from tui.widgets.lines import Row, title_row

if TYPE_CHECKING:
    from tui.glyphs import Glyphs
    from tui.search_facts import Axis, Front
    from tui.snapshot import Snapshot


def pareto_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The front over its first two objectives: the first upwards, the second to the right."""
    front = snapshot.facts.search.front
    if front is None or not front.points:
        return [title_row("Pareto front", width, glyphs), ((shorten("no measurement on a front yet", width), "dim"),)]
    up, right = front.axes[:2]
    legend = ((f"{glyphs.star} on the front", "best"), ("o others", "dim"))
    rows: list[Row] = [title_row(f"Pareto: {up.label}", width, glyphs, *legend)]
    cells_x, cells_y = width - AXIS_CELLS, height - 2
    if cells_x < 8 or cells_y < 2:
        return rows[: max(1, height)]
    points = sorted(
        ((point.values[1], point.values[0], point.trial) for point in front.points), key=lambda each: each[:2]
    )
    others = _others(snapshot, front)
    top_x = nice_top(max(x for x, *_ in [*points, *others]) * 1.02)
    top_y = nice_top(max(y for _, y, *_ in [*points, *others]) * 1.02)
    canvas = Canvas(cells_x, cells_y, glyphs)
    places = [(_place(x, top_x, cells_x - 1), _place(y, top_y, canvas.dots_y - 1), trial) for x, y, trial in points]
    _connect(canvas.layer("second"), [(x * glyphs.dots_x, y) for x, y, _ in places])
    for x, y in others:
        canvas.sign(_place(x, top_x, cells_x - 1), _place(y, top_y, canvas.dots_y - 1), "o", "dim")
    for x, y, trial in places:
        for place, char in enumerate(str(trial)):
            if x + 1 + place < cells_x:
                canvas.sign(x + 1 + place, y, char, "dim")
    for x, y, _ in places:
        canvas.sign(x, y, glyphs.star, "best")
    labels = {0: number(top_y), cells_y - 1: "0"}
    rows += [((fit_right(labels.get(y, ""), AXIS_CELLS - 1) + " ", "dim"), *row) for y, row in enumerate(canvas.rows())]
    rows.append(_foot(right, front, top_x, cells_x))
    return rows


def _others(snapshot: Snapshot, front: Front) -> list[tuple[float, float]]:
    """Where the other finished trials lie, as far as their results say."""
    on_it = {point.trial for point in front.points}
    up, right = front.axes[:2]
    found = []
    for trial in snapshot.trials:
        x, y = (metric_value(trial.result, axis.metric, axis.stat or "avg") for axis in (right, up))
        if x is not None and y is not None and trial.number not in on_it:
            found.append((x, y))
    return found


def _place(value: float, top: float, last: int) -> int:
    return round(min(1.0, max(0.0, value / top)) * last)


def _connect(layer: list[int], places: list[tuple[int, int]]) -> None:
    """A staircase: between two points nothing better than the worse of both is known."""
    for (x, y), (next_x, next_y) in itertools.pairwise(places):
        low, high = sorted((y, next_y))
        layer[x] |= dots(low, high) if next_y < y else 0
        for column in range(x, next_x):
            layer[column] |= dots(next_y, next_y)


def _foot(right: Axis, front: Front, top: float, cells_x: int) -> Row:
    volume = "" if front.hypervolume is None else f"  hypervolume {number(front.hypervolume)}"
    told = shorten(f"0  {right.label}{volume}", max(0, cells_x - 7))
    return ((" " * AXIS_CELLS + told + fit_right(number(top), cells_x - len(told)), "dim"),)
