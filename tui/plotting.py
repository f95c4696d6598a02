"""Draws lines over time with the dots of text cells; keeps the highest and lowest value of each dot column.

Columns stand on a fixed grid of time, so that a plot that follows the present moves by whole cells: the rest of a row stays
the same and is not sent to the terminal again.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len

from tui.canvas import Canvas, dots
from tui.formatting import clock_text, fit, fit_right, number, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.glyphs import Glyphs
    from tui.widgets.lines import Piece, Row

NS_PER_S = 1_000_000_000
JOIN_NS = 3 * NS_PER_S
"""Points further apart than this, or than three dot columns, are not joined: nothing was measured between them."""

LATE_NS = 5 * NS_PER_S
"""A column is over, and may be kept, so long after its end."""

MAX_KEPT_COLUMNS = 4096
AXIS_CELLS = 6
_NICE = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_LIMIT_REACH = 2.5
"""A limit further above the data than this factor is named and not drawn: it would flatten the curve."""


@dataclass(frozen=True, slots=True)
class PlotSeries:
    """One line.

    Attributes:
        label: Its name.
        ink: Its colour.
        times_ns: Moments of its points, oldest first.
        values: Their values; a NaN is a gap.
        dotted: Whether it is drawn with gaps, so that it can be told from another without colour.
        told_at_ns: Moment whose value the heading tells; None: the newest.
        heard: Whether the source still speaks; the heading tells nothing of one that has grown silent.
    """

    label: str
    ink: str
    times_ns: Sequence[int]
    values: Sequence[float]
    dotted: bool = False
    told_at_ns: int | None = None
    heard: bool = True

    def told(self) -> float:
        """The value of the heading; NaN when there is none."""
        if not self.heard:
            return math.nan
        last = len(self.values) if self.told_at_ns is None else bisect_right(self.times_ns, self.told_at_ns)
        newest_first = (self.values[place] for place in range(last - 1, -1, -1))
        return next((value for value in newest_first if value == value), math.nan)


@dataclass(frozen=True, slots=True)
class Plot:
    """What to draw.

    Attributes:
        title: Heading, with the unit.
        series: Lines; the first lies on top.
        window_ns: Left and right edge.
        limits: Values of horizontal lines.
        marks_ns: Moments of vertical lines.
        top: Upper edge of the scale, or None to follow the data.
        empty: What to say when there is nothing to draw.
    """

    title: str
    series: tuple[PlotSeries, ...]
    window_ns: tuple[int, int]
    limits: tuple[float, ...] = ()
    marks_ns: tuple[int, ...] = ()
    top: float | None = None
    empty: str = "no data in this window"


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Which dot column a moment falls into."""

    first: int
    column_ns: int
    columns: int

    @classmethod
    def over(cls, window_ns: tuple[int, int], cells: int, dots_x: int) -> TimeGrid:
        """The grid of a window over so many cells; the right edge lies in the last cell."""
        start_ns, end_ns = window_ns
        # One cell to spare: the window seldom begins and ends at the edges of cells.
        column_ns = max(1, -(-(end_ns - start_ns) // (max(1, cells - 1) * dots_x)))
        last_cell = end_ns // (column_ns * dots_x)
        return cls((last_cell - cells + 1) * dots_x, column_ns, cells * dots_x)

    def column(self, t_ns: int) -> int:
        """Dot column of a moment; outside 0..columns-1 when it is not in the window."""
        return t_ns // self.column_ns - self.first

    def edges(self, times_ns: Sequence[int]) -> list[int]:
        """Where each dot column begins in a list of times, and where the last one ends."""
        edges: list[int] = []
        place = 0
        for column in range(self.first, self.first + self.columns + 1):
            place = bisect_left(times_ns, column * self.column_ns, place)
            edges.append(place)
        return edges


Envelopes = dict[tuple[str, str], "KeptEnvelope"]
"""Envelopes of plots by heading and label."""


@dataclass(slots=True)
class KeptEnvelope:
    """Lowest and highest values of columns that are over, so that a plot that follows looks at new samples only.

    Attributes:
        column_ns: Width of a column.
        columns: Values by column, counted from session time 0.
    """

    column_ns: int = 0
    columns: dict[int, tuple[float, float]] = field(default_factory=dict)


def envelope(series: PlotSeries, grid: TimeGrid, kept: KeptEnvelope | None = None) -> tuple[list[float], list[float]]:
    """Lowest and highest value in each dot column; NaN where there is none.

    Args:
        series: The line.
        grid: The columns.
        kept: What is known of columns that are over; more is kept there.
    """
    low, high = [math.nan] * grid.columns, [math.nan] * grid.columns
    times_ns, values = series.times_ns, series.values
    if not times_ns:
        return low, high
    kept = KeptEnvelope() if kept is None else kept
    if kept.column_ns != grid.column_ns or len(kept.columns) > MAX_KEPT_COLUMNS:
        kept.column_ns, kept.columns = grid.column_ns, {}
    known = kept.columns
    # The first column may have lost samples to the edge of the window; the last ones may still get some.
    whole_from = times_ns[0] // grid.column_ns + 1
    whole_to = (times_ns[-1] - LATE_NS) // grid.column_ns
    last = min(grid.columns, grid.column(times_ns[-1]) + 1)
    for place in range(max(0, grid.column(times_ns[0])), last):
        column = grid.first + place
        found = known.get(column) if column < whole_to else None
        if found is None:
            found = _span(times_ns, values, column * grid.column_ns, (column + 1) * grid.column_ns)
            if whole_from <= column < whole_to:
                known[column] = found
        low[place], high[place] = found
    return low, high


def _span(times_ns: Sequence[int], values: Sequence[float], start_ns: int, end_ns: int) -> tuple[float, float]:
    start = bisect_left(times_ns, start_ns)
    end = bisect_left(times_ns, end_ns, start)
    inside = [value for value in values[start:end] if value == value] if start < end else []
    return (min(inside), max(inside)) if inside else (math.nan, math.nan)


def nice_top(value: float) -> float:
    """The smallest round number at or above a value; 1 for nothing and for what no plot can show."""
    if not 1e-12 < value < 1e300:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (*_NICE, 10.0, 20.0) if step * power >= value * (1 - 1e-12))


def plot_rows(plot: Plot, width: int, height: int, glyphs: Glyphs, kept: Envelopes | None = None) -> list[Row]:
    """A plot as rows: heading, curves with the scale at their left, and the times below when there is room."""
    cells_x = width - AXIS_CELLS
    with_times = height >= 8
    cells_y = height - 1 - with_times
    if cells_x < 4 or cells_y < 1:
        return [_heading(plot, width, glyphs, ())] * min(1, height)
    grid = TimeGrid.over(plot.window_ns, cells_x, glyphs.dots_x)
    kept = {} if kept is None else kept
    envelopes = [
        envelope(series, grid, kept.setdefault((plot.title, series.label), KeptEnvelope())) for series in plot.series
    ]
    peak = max((value for _, high in envelopes for value in high if value == value), default=math.nan)
    drawn, far = _split_limits(plot.limits, peak)
    top = plot.top or nice_top(max([peak, *(limit * 1.05 for limit in drawn)]) if peak == peak else 1.0)
    canvas = Canvas(cells_x, cells_y, glyphs)
    if peak == peak:
        for series, (low, high) in zip(plot.series, envelopes, strict=True):
            _draw(canvas, low, high, top, grid, series)
        for limit in drawn:
            canvas.row_line(_dot(limit, top, canvas.dots_y), glyphs.limit, "limit")
        for mark_ns in plot.marks_ns:
            if 0 <= grid.column(mark_ns) < grid.columns:
                canvas.column_line(grid.column(mark_ns), glyphs.tick, "dim")
    rows = [_heading(plot, width, glyphs, far)]
    rows += _with_axis(canvas.rows(), top) if peak == peak else _blank(plot.empty, width, cells_y)
    if with_times:
        rows.append(_times(plot.window_ns, cells_x))
    return rows


def _split_limits(limits: tuple[float, ...], peak: float) -> tuple[list[float], tuple[float, ...]]:
    drawn = [limit for limit in limits if peak != peak or limit <= peak * _LIMIT_REACH]
    return drawn, tuple(limit for limit in limits if limit not in drawn)


def _dot(value: float, top: float, dots_y: int) -> int:
    return round(min(max(value / top, 0.0), 1.0) * (dots_y - 1))


def _draw(canvas: Canvas, low: list[float], high: list[float], top: float, grid: TimeGrid, series: PlotSeries) -> None:
    """One line: the span of each dot column, stretched to touch the one before unless too much time lies between."""
    layer = canvas.layer(series.ink)
    highest = canvas.dots_y - 1
    scale = highest / top
    reach = max(3, -(-JOIN_NS // grid.column_ns))
    before_x, before_from, before_to = -reach - 1, 0, 0
    for x, (bottom, peak) in enumerate(zip(low, high, strict=True)):
        if bottom != bottom:
            continue
        from_y = round(bottom * scale)
        to_y = from_y if peak == bottom else round(peak * scale)
        if from_y < 0 or to_y > highest:
            from_y, to_y = (min(max(each, 0), highest) for each in (from_y, to_y))
        if x - before_x <= reach:
            for between in range(before_x + 1, x):
                share = (between - before_x) / (x - before_x)
                y = round((before_from + before_to + (from_y + to_y - before_from - before_to) * share) / 2)
                layer[between] |= _touching(y, y, before_from, before_to)
                before_from = before_to = y
            layer[x] |= _touching(from_y, to_y, before_from, before_to)
        else:
            layer[x] |= dots(from_y, to_y)
        before_x, before_from, before_to = x, from_y, to_y
    if series.dotted:
        for x in range(len(layer)):
            if (grid.first + x) // 2 % 2:
                layer[x] = 0


def _touching(from_y: int, to_y: int, before_from: int, before_to: int) -> int:
    """The dots of a span stretched towards the one in the column before, so that no gap is seen between them."""
    if from_y > before_to + 1:
        from_y = before_to + 1
    elif to_y < before_from - 1:
        to_y = before_from - 1
    return (2 << to_y) - (1 << from_y)


def _heading(plot: Plot, width: int, glyphs: Glyphs, far: tuple[float, ...]) -> Row:
    pieces: list[Piece] = [(shorten(plot.title, width), "title")]
    room = width - len(pieces[0][0])
    for series in plot.series:
        text = f" {series.label} {number(series.told())}"
        if len(text) <= room:
            pieces.append((text, series.ink))
            room -= len(text)
    for limit in far:
        text = f" limit {number(limit)}"
        if len(text) <= room:
            pieces.append((text, "limit"))
            room -= len(text)
    pieces.append((" " * min(1, room) + glyphs.rule * (room - 1), "dim"))
    return tuple(pieces)


def _with_axis(rows: list[Row], top: float) -> list[Row]:
    labels = {0: _scale(top), len(rows) - 1: "0"}
    if len(rows) >= 7 and len(rows) % 2:
        labels[len(rows) // 2] = _scale(top / 2)
    if len(rows) == 1:
        labels = {0: _scale(top)}
    return [((fit_right(labels.get(y, ""), AXIS_CELLS - 1) + " ", "dim"), *row) for y, row in enumerate(rows)]


def _scale(value: float) -> str:
    return f"{value:g}" if 0.01 <= value < 10_000 else number(value)


def _blank(text: str, width: int, cells_y: int) -> list[Row]:
    middle = cells_y // 2
    return [
        ((fit(shorten("      " + text, width), width) if y == middle else " " * width, "dim"),) for y in range(cells_y)
    ]


def _times(window_ns: tuple[int, int], cells_x: int) -> Row:
    left, right = clock_text(window_ns[0]) if window_ns[0] >= 0 else "", clock_text(window_ns[1])
    middle = clock_text(sum(window_ns) // 2) if cells_x >= 40 and sum(window_ns) >= 0 else ""
    half = cells_x // 2
    text = fit(left, half - len(middle) // 2) + middle
    return ((" " * AXIS_CELLS + text + fit_right(right, cells_x - len(text)), "dim"),)


def side_by_side(blocks: Sequence[list[Row]], widths: Sequence[int], gap: int = 2) -> list[Row]:
    """Blocks of rows next to each other; a short row is filled up to its width."""
    rows: list[Row] = []
    for y in range(max((len(block) for block in blocks), default=0)):
        pieces: list[Piece] = []
        for place, (block, width) in enumerate(zip(blocks, widths, strict=True)):
            row = block[y] if y < len(block) else ()
            pieces += row
            if place < len(blocks) - 1:
                pieces.append((" " * (width - _cells(row) + gap), ""))
        rows.append(tuple(pieces))
    return rows


def _cells(row: Row) -> int:
    return sum(cell_len(text) for text, _ in row)
