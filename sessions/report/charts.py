"""Charts as SVG: what is to be drawn as values, and the drawing.

Colours come from classes, so that one drawing serves light and dark pages. Every point that can be hovered is listed in the
attribute `data-points` as [x, y, lines]; a chart is complete without a script.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sessions.report.markup import Element, add, breakable, tag
from sessions.report.scales import Scale, linear_scale, log_scale, short
from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDE = (540, 270)
NARROW = (350, 260)
CHAR_PX = 6.6
"""Width of a character of the labels, for the room they need."""


Shape = Literal["circle", "square", "triangle", "cross"]

MOST_DOTS = 40
"""Points of a line that are drawn as dots too; more would hide it."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together.

    Attributes:
        name: As in the legend.
        points: x and y, in the order drawn; points whose y is NaN part the line.
        ink: Number of its colour; 0 is the winner's, 1 the baseline's.
        kind: `line`, `dots`, `step`, `area`, or `bars` (across, x is the length).
        tips: What is told about each point; empty: its values.
        shape: Of its dots: not by colour alone.
        low: Lower ends of intervals; empty: none.
        high: Upper ends.
        dashed: Whether its line is dashed.
    """

    name: str
    points: Sequence[tuple[float, float]]
    ink: int = 0
    kind: Literal["line", "dots", "step", "area", "bars"] = "line"
    tips: Sequence[str] = ()
    shape: Shape = "circle"
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """A line across at a value of y, such as an SLO."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Band:
    """A span of x with a name, such as a trial on the time axis."""

    start: float
    end: float
    label: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes:
        title: Of the figure.
        says: One sentence for those who cannot see it.
        x_label: With its unit.
        y_label: With its unit.
        series: Drawn in order; the last lies on top.
        x_log: Whether x has a logarithmic scale.
        y_log: Whether y has one.
        y_zero: Whether y begins at 0.
        x_names: Names of whole-numbered x instead of a scale.
        x_whole: Whether x counts something: no ticks between whole numbers.
        limits: Lines across.
        bands: Spans of x.
        height: Share of the usual height.
    """

    title: str
    says: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_log: bool = False
    y_log: bool = False
    y_zero: bool = False
    x_names: Sequence[str] = ()
    x_whole: bool = False
    limits: Sequence[Limit] = ()
    bands: Sequence[Band] = ()
    height: float = 1.0


@dataclass(slots=True)
class _Drawing:
    """A chart while it is drawn: its scales, and the points that can be hovered."""

    svg: Element
    x: Scale
    y: Scale
    left: float
    top: float
    right: float
    bottom: float
    tips: list[tuple[float, float, str]] = field(default_factory=list)


def figure(chart: Chart) -> Element:
    """The chart with caption and legend, drawn for a wide and for a narrow page."""
    parts = [
        tag("figcaption", *breakable(chart.title)),
        _legend(chart) if len(chart.series) > 1 else None,
        add(tag("div", class_="wide"), draw(chart, *WIDE)),
        add(tag("div", class_="narrow"), draw(chart, *NARROW)),
    ]
    return tag("figure", *parts, class_="chart")


def draw(chart: Chart, width: int, height: int) -> Element:
    """The chart as an SVG element of a size in pixels."""
    height = round(height * chart.height)
    svg = tag(
        "svg",
        viewBox=f"0 0 {width} {height}",
        role="img",
        tabindex="0",
        aria_label=f"{chart.title}. {chart.says}",
        xmlns="http://www.w3.org/2000/svg",
    )
    drawing = _lay_out(chart, svg, width, height)
    for band in chart.bands:
        _draw_band(drawing, band)
    _draw_axes(drawing, chart, width, height)
    for limit in chart.limits:
        _draw_limit(drawing, limit)
    for series in chart.series:
        _draw_series(drawing, series)
    for band in chart.bands:
        _name_band(drawing, band)
    told = [[round(x, 1), round(y, 1), [clean_line(line) for line in text.split("\n")]] for x, y, text in drawing.tips]
    svg.set("data-points", json.dumps(told, ensure_ascii=False, separators=(",", ":")))
    return svg


def _legend(chart: Chart) -> Element:
    entries = [tag("li", _sample(series), f" {series.name}") for series in chart.series if series.name]
    return tag("ul", *entries, class_="legend")


def _sample(series: Series) -> Element:
    svg = tag("svg", viewBox="0 0 22 12", width="22", height="12", aria_hidden="true")
    if series.kind != "dots":
        add(svg, tag("line", x1="0", y1="6", x2="22", y2="6", class_=_line_class(series)))
    if _has_dots(series):
        add(svg, _dot(series, 11, 6))
    return svg


def _has_dots(series: Series) -> bool:
    return series.kind == "dots" or (series.kind == "line" and len(series.points) <= MOST_DOTS)


def _line_class(series: Series) -> str:
    return f"line s{series.ink}{' dashed' if series.dashed else ''}"


def _lay_out(chart: Chart, svg: Element, width: int, height: int) -> _Drawing:
    xs = [x for series in chart.series for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    ys = [y for series in chart.series for _, y in series.points if math.isfinite(y)]
    ys += [end for series in chart.series for end in (*series.low, *series.high) if math.isfinite(end)]
    ys += [limit.value * 1.06 for limit in chart.limits if _is_near(limit.value, ys)]
    xs += [end for band in chart.bands for end in (band.start, band.end)]
    y_scale = (log_scale if chart.y_log else linear_scale)(ys, 5, chart.y_zero)
    x_scale = (log_scale if chart.x_log else linear_scale)(xs, max(3, width // 110), False)
    if chart.x_names:
        x_scale = Scale(-0.5, len(chart.x_names) - 0.5, tuple(float(place) for place in range(len(chart.x_names))))
    if chart.bands:
        x_scale = Scale(min(xs), max(max(xs), min(xs) + 1e-9), tuple(tick for tick in x_scale.ticks if tick <= max(xs)))
    if chart.x_whole:
        ticks = tuple(tick for tick in x_scale.ticks if float(tick).is_integer())
        x_scale = Scale(min(xs, default=0.0) - 0.4, max(xs, default=1.0) + 0.4, ticks)
    left = 14 + CHAR_PX * max((len(short(tick)) for tick in y_scale.ticks), default=1)
    return _Drawing(svg, x_scale, y_scale, left, 26, width - 12, height - 42)


def _is_near(value: float, values: Sequence[float]) -> bool:
    """Whether a limit lies close enough to the data to be worth the room."""
    return bool(values) and value <= 2.5 * max(values)


def _px(drawing: _Drawing, x: float, y: float) -> tuple[float, float]:
    return (
        drawing.left + drawing.x.share(x) * (drawing.right - drawing.left),
        drawing.bottom - drawing.y.share(y) * (drawing.bottom - drawing.top),
    )


def _draw_axes(drawing: _Drawing, chart: Chart, width: int, height: int) -> None:
    svg = drawing.svg
    for tick in drawing.y.ticks:
        _, y = _px(drawing, drawing.x.low, tick)
        add(svg, tag("line", x1=drawing.left, x2=drawing.right, y1=y, y2=y, class_="grid"))
        add(svg, tag("text", short(tick), x=drawing.left - 6, y=y + 4, text_anchor="end"))
    names = chart.x_names or [short(tick) for tick in drawing.x.ticks]
    room = max(width - drawing.left, 1) / max(len(names), 1) / CHAR_PX
    step = math.ceil((max((len(name) for name in names), default=1) + 1) / room) if not chart.x_names else 1
    for place, tick in enumerate(drawing.x.ticks):
        if not drawing.x.low <= tick <= drawing.x.high or place % step:
            continue
        x, _ = _px(drawing, tick, drawing.y.low)
        name = _fitted(names[place], room) if chart.x_names else names[place]
        add(svg, tag("line", x1=x, x2=x, y1=drawing.bottom, y2=drawing.bottom + 4, class_="axis"))
        add(svg, tag("text", name, x=x, y=drawing.bottom + 18, text_anchor="middle"))
    add(svg, tag("line", x1=drawing.left, x2=drawing.right, y1=drawing.bottom, y2=drawing.bottom, class_="axis"))
    add(svg, tag("text", chart.y_label, x=4, y=14, class_="label"))
    add(svg, tag("text", chart.x_label, x=drawing.right, y=height - 6, text_anchor="end", class_="label"))


def _fitted(name: str, room: float) -> str:
    """A name cut to the characters there is room for."""
    most = max(int(room) - 1, 2)
    return name if len(name) <= most + 1 else f"{name[:most]}…"


def _draw_limit(drawing: _Drawing, limit: Limit) -> None:
    if not drawing.y.low <= limit.value <= drawing.y.high:
        return
    _, y = _px(drawing, drawing.x.low, limit.value)
    add(drawing.svg, tag("line", x1=drawing.left, x2=drawing.right, y1=y, y2=y, class_="limit"))
    add(drawing.svg, tag("text", limit.label, x=drawing.right - 4, y=y - 5, text_anchor="end", class_="limit"))


def _draw_band(drawing: _Drawing, band: Band) -> None:
    left, _ = _px(drawing, band.start, drawing.y.low)
    right, _ = _px(drawing, band.end, drawing.y.low)
    box = tag(
        "rect",
        x=left,
        y=drawing.top,
        width=max(right - left, 1.0),
        height=drawing.bottom - drawing.top,
        class_="band strong" if band.strong else "band",
    )
    add(drawing.svg, box)


def _name_band(drawing: _Drawing, band: Band) -> None:
    left, _ = _px(drawing, band.start, drawing.y.low)
    right, _ = _px(drawing, band.end, drawing.y.low)
    if right - left > len(band.label) * CHAR_PX:
        label = tag("text", band.label, x=(left + right) / 2, y=drawing.top + 12, text_anchor="middle", class_="band")
        add(drawing.svg, label)


def _draw_series(drawing: _Drawing, series: Series) -> None:
    if series.kind != "dots":
        for piece in _pieces(series):
            points = list(_stepped(piece) if series.kind == "step" else piece)
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_px(drawing, *point) for point in points))
            if series.kind == "area" and points:
                first, last = _px(drawing, points[0][0], drawing.y.low), _px(drawing, points[-1][0], drawing.y.low)
                around = f"{first[0]:.1f},{first[1]:.1f} {path} {last[0]:.1f},{last[1]:.1f}"
                add(drawing.svg, tag("polygon", points=around, class_=f"area s{series.ink}"))
            add(drawing.svg, tag("polyline", points=path, class_=_line_class(series)))
    for place, (x, y) in enumerate(series.points):
        if not math.isfinite(x) or not math.isfinite(y):
            continue
        at_x, at_y = _px(drawing, x, y)
        if series.low and series.high and math.isfinite(series.low[place]) and math.isfinite(series.high[place]):
            _, low = _px(drawing, x, series.low[place])
            _, high = _px(drawing, x, series.high[place])
            add(drawing.svg, tag("line", x1=at_x, x2=at_x, y1=low, y2=high, class_=f"whisker s{series.ink}"))
        if _has_dots(series):
            add(drawing.svg, _dot(series, at_x, at_y))
        text = series.tips[place] if series.tips else f"{series.name}: {short(y)} at {short(x)}"
        if text:
            drawing.tips.append((at_x, at_y, text))


def _pieces(series: Series) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line between gaps."""
    piece: list[tuple[float, float]] = []
    for x, y in series.points:
        if math.isfinite(x) and math.isfinite(y):
            piece.append((x, y))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _stepped(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    before: float | None = None
    for x, y in points:
        if before is not None:
            yield x, before
        yield x, y
        before = y


def _dot(series: Series, x: float, y: float) -> Element:
    style = f"dot s{series.ink}"
    if series.shape == "square":
        return tag("rect", x=x - 4, y=y - 4, width=8.0, height=8.0, class_=style)
    if series.shape == "triangle":
        return tag("path", d=f"M{x:.1f} {y - 5:.1f}l5 9h-10z", class_=style)
    if series.shape == "cross":
        return tag("path", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8", class_=f"cross s{series.ink}")
    return tag("circle", cx=x, cy=y, r=4.0, class_=style)
