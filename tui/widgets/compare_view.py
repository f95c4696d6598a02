"""Two trials beside each other: settings that differ, results that differ, and both curves on one axis of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from sessions.text import clean_line
from tui.formatting import clock_text, fit, fit_right, metric_label, number, percent, shorten, value_text
from tui.plotting import Plot, PlotSeries, side_by_side
from tui.snapshot import changed_params
from tui.widgets.lines import LineWidget, Piece, Row, title_row
from tui.widgets.plot_grid import grid_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.comparison import Change, LoadComparison
    from tui.comparing import Align, Compared, ComparedSide
    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot
    from tui.track import Track

CURVES: tuple[tuple[str, str, str, float, float | None], ...] = (
    ("TTFT p99 ms", "load", "ttft_p99_ms", 1.0, None),
    ("output tokens/s", "load", "output_tps", 1.0, None),
    ("ITL p50 ms", "load", "itl_p50_ms", 1.0, None),
    ("KV cache %", "engine", "kv_used_ratio", 100.0, 100.0),
    ("requests waiting", "engine", "waiting", 1.0, None),
    ("requests running", "engine", "running", 1.0, None),
    ("GPU power W (first GPU)", "gpu", "power_w", 1.0, None),
    ("DRAM % (first GPU)", "gpu", "dram_active_pct", 1.0, 100.0),
    ("tensor % (first GPU)", "gpu", "tensor_active_pct", 1.0, 100.0),
)
"""Heading, kind of source, column, scale, and top of the scale."""

_INKS = ("first", "third")
_GAP = 2


class CompareView(LineWidget):
    """Draws a comparison; it has no snapshot of its own, so `compared` takes its place."""

    DEFAULT_CSS = """
    CompareView { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.compared: Compared | None = None
        self.align: Align = "start of the trial"
        self.window_ns: tuple[int, int] | None = None
        self.cursor_ns: int | None = None
        self.load = 0
        self.told = "reading both ..."

    def axis_ns(self) -> tuple[int, int]:
        """The axis of time that holds both trials."""
        if self.compared is None:
            return 0, NS_PER_S
        spans = [
            (start - side.zero_ns(self.align), end - side.zero_ns(self.align))
            for side in (self.compared.first, self.compared.second)
            for start, end in [side.span_ns]
        ]
        start_ns = min(start for start, _ in spans)
        return start_ns, max(max(end for _, end in spans), start_ns + NS_PER_S)

    def again(self) -> None:
        """Draw what has changed."""
        width, height = self.size
        if width <= 0 or height <= 0:
            return
        compared = self.compared
        if compared is None:
            self._draw([((shorten(self.told, width), "dim"),)])
        else:
            self._draw(self._all(compared, width, height))

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """A comparison follows no session."""
        return self._rows

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.again()

    def _all(self, compared: Compared, width: int, height: int) -> list[Row]:
        window_ns = self.window_ns or self.axis_ns()
        head = heading_rows(compared, self.align, window_ns, width, self.glyphs)
        upper = min(max(6, height // 2 - len(head)), 18)
        half = (width - _GAP) // 2
        blocks = [
            results_rows(compared, self.load, half, upper, self.glyphs),
            settings_rows(compared, width - half - _GAP, upper, self.glyphs),
        ]
        upper_rows = side_by_side(blocks, [half, width - half - _GAP], _GAP)
        rows = head + upper_rows
        return rows + self._curves(compared, window_ns, width, height - len(rows))

    def _curves(self, compared: Compared, window_ns: tuple[int, int], width: int, height: int) -> list[Row]:
        plots = compared_plots(compared, self.align, window_ns, self.cursor_ns)
        return grid_rows(plots, width, height, self.glyphs) if height >= 3 else []


def heading_rows(compared: Compared, align: Align, window_ns: tuple[int, int], width: int, glyphs: Glyphs) -> list[Row]:
    """Which trials these are; the sign of each is that of its curve."""
    rows: list[Row] = []
    for letter, side, ink in (("A", compared.first, _INKS[0]), ("B", compared.second, _INKS[1])):
        curve = glyphs.rule * 3 if letter == "A" else (glyphs.dot + " " + glyphs.dot)
        facts = side.snapshot.facts
        score = f"  {number(side.trial.score)} {facts.objective.unit}".rstrip()
        simulated: tuple[Piece, ...] = ((" SIMULATED ", "badge"),) if facts.simulated else ()
        room = max(0, width - 26 - len(simulated) * 11)
        told = f" {clean_line(side.name)}  {facts.engine}  {facts.model}  {side.trial.kind} {side.trial.state}"
        rows.append(
            (
                (f" {letter} {curve} ", ink),
                *simulated,
                (fit(shorten(told, room), room), ""),
                (fit_right(shorten(score, 18), 18), "strong"),
            )
        )
    start, end = (clock_text(t_ns) if t_ns >= 0 else f"-{clock_text(-t_ns)}" for t_ns in window_ns)
    axis = "UTC" if align == "time of day" else f"{start} to {end}"
    rows.append(((shorten(f" aligned at: {align}, {axis}", width), "dim"),))
    return rows


def results_rows(compared: Compared, load: int, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """Metric by metric: A, B, and B against A with its interval."""
    numbers = compared.numbers
    if numbers is None or not numbers.loads:
        told = compared.problem or "the trials were measured at no load in common"
        return [title_row("results", width, glyphs), ((shorten(told, width), "warn"),)]
    chosen = numbers.loads[load % len(numbers.loads)]
    which = f"at {chosen.label} ({load % len(numbers.loads) + 1} of {len(numbers.loads)})"
    rows: list[Row] = [title_row("results", width, glyphs, (shorten(which, max(0, width - 12)), "dim"))]
    label, value = max(14, min(26, width - 39)), 7
    rows.append(((fit("", label) + fit_right("A", value) + fit_right("B", value) + "   B against A", "dim"),))
    rows += _metric_rows(chosen, label, value, width)
    rows += [((shorten(f"note: {clean_line(note)}", width), "dim"),) for note in numbers.notes]
    return rows[:height]


def _metric_rows(chosen: LoadComparison, label: int, value: int, width: int) -> list[Row]:
    rows: list[Row] = []
    for metric in chosen.metrics:
        first, second = metric.estimates[:2]
        change = metric.changes[1]
        rows.append(
            (
                (fit(shorten(metric_label(metric.metric, metric.stat, metric.unit), label - 1), label), ""),
                (fit_right(number(first.value if first else None), value), _INKS[0]),
                (fit_right(number(second.value if second else None), value), _INKS[1]),
                (shorten("  " + change_text(change), max(0, width - label - 2 * value)), _change_ink(change)),
            )
        )
    return rows


def change_text(change: Change | None) -> str:
    """B - A with its sign, in per cent where there is a ratio, and the interval where there is one."""
    if change is None:
        return ""
    if change.relative is None:
        return f"{change.absolute:+.3g}"
    told = fit_right(percent(change.relative, signed=True), 7)
    if change.low is None or change.high is None:
        return told
    low = percent(change.low, signed=True).removesuffix(" %")
    sure = "" if change.significant else "  may be noise"
    return f"{told}  {low} to {percent(change.high, signed=True)}{sure}"


def _change_ink(change: Change | None) -> str:
    if change is None or change.better is None or change.significant is False:
        return "dim"
    return "ok" if change.better else "bad"


def settings_rows(compared: Compared, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """Settings that differ, then conditions that do."""
    rows: list[Row] = [title_row("settings that differ", width, glyphs)]
    name, value = max(12, width - 2 * 16), 15
    rows.append(((fit("", name) + " " + fit("A", value) + " B", "dim"),))
    for label, first, second in _settings(compared):
        changed = (fit(shorten(_end(clean_line(label), name), name), name) + " ", "")
        shown = (fit(shorten(clean_line(value_text(first)), value), value), _INKS[0])
        rows.append((changed, shown, (" " + shorten(clean_line(value_text(second)), value), _INKS[1])))
    if len(rows) == 2:
        rows.append((("the same settings", "dim"),))
    if len(rows) > height:
        rows = [*rows[: height - 1], ((f"... {len(rows) - height + 1} more", "dim"),)]
    return rows


def _settings(compared: Compared) -> list[tuple[str, object, object]]:
    if compared.numbers is not None:
        both = (*compared.numbers.params, *compared.numbers.conditions)
        return [(each.name, each.values[0], each.values[1]) for each in both]
    first, second = compared.first.trial.params, compared.second.trial.params
    names = dict.fromkeys((*changed_params(first, second), *changed_params(second, first)))
    return [(name, first.get(name, "(default)"), second.get(name, "(default)")) for name in names]


def _end(name: str, width: int) -> str:
    return name if len(name) <= width else ".." + name[-(width - 2) :]


def compared_plots(compared: Compared, align: Align, window_ns: tuple[int, int], cursor_ns: int | None) -> list[Plot]:
    """Both curves of every quantity that at least one side has."""
    plots = []
    marks = () if cursor_ns is None else (cursor_ns,)
    for title, kind, column, scale, top in CURVES:
        series = tuple(
            _curve(side, kind, column, scale, align, letter, ink, cursor_ns)
            for letter, side, ink in (("A", compared.first, _INKS[0]), ("B", compared.second, _INKS[1]))
        )
        if any(value == value for line in series for value in line.values):
            plots.append(Plot(title, series, window_ns, marks_ns=marks, top=top))
    return plots


def _curve(
    side: ComparedSide,
    kind: str,
    column: str,
    scale: float,
    align: Align,
    letter: str,
    ink: str,
    cursor_ns: int | None,
) -> PlotSeries:
    track = _track(side.snapshot, kind)
    times_ns, values = track.series(column, scale) if track is not None else ((), [])
    zero_ns = side.zero_ns(align)
    shifted = [t_ns - zero_ns for t_ns in times_ns]
    return PlotSeries(letter, ink, shifted, values, dotted=letter == "B", told_at_ns=cursor_ns)


def _track(snapshot: Snapshot, kind: str) -> Track | None:
    if kind == "gpu":
        return snapshot.gpus[0] if snapshot.gpus else None
    return snapshot.load if kind == "load" else snapshot.engine
