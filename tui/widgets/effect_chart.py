"""The effect of one knob: the score at each of its values with an interval, all other knobs averaged out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import fit, fit_right, number, shorten, value_text
from tui.widgets.lines import Piece, Row, title_row

if TYPE_CHECKING:
    from tui.glyphs import Glyphs
    from tui.search_facts import EffectPoint
    from tui.snapshot import Snapshot

_SCORE_CELLS, _COUNT_CELLS, _VALUE_CELLS = 7, 5, 20


def effect_knobs(snapshot: Snapshot) -> list[str]:
    """Knobs whose effect is known, the most important first."""
    search = snapshot.facts.search
    shares = dict(search.importance.shares) if search.importance is not None else {}
    return sorted(search.effects, key=lambda name: -shares.get(name, 0.0))


def effect_rows(snapshot: Snapshot, knob: str, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """One row per value; of more values than rows, as many as fit, evenly chosen."""
    points = snapshot.facts.search.effects.get(knob, ())
    if not points:
        told = "not known yet: it takes some finished trials that differ"
        return [title_row("effect of one knob", width, glyphs), ((shorten(told, width), "dim"),)]
    unit = snapshot.facts.objective.unit or "score"
    rows: list[Row] = [title_row(f"effect of {knob}", width, glyphs, (f"{unit}, others averaged out", "dim"))]
    shown = _thinned(points, max(1, height - 1))
    values = min(max(len(value_text(point.value)) for point in shown), _VALUE_CELLS)
    cells = max(5, width - values - _SCORE_CELLS - _COUNT_CELLS - 3)
    low, high = min(point.low for point in points), max(point.high for point in points)
    sign = 1 if snapshot.facts.objective.maximize else -1
    best = max(points, key=lambda point: sign * point.score)
    rows += [
        (
            (fit_right(shorten(value_text(point.value), values), values), "best" if point is best else ""),
            (fit_right(number(point.score), _SCORE_CELLS) + " ", "best" if point is best else ""),
            *_interval(point, low, high, cells, glyphs),
            (fit(f" n {point.trials}", _COUNT_CELLS + 1), "dim"),
        )
        for point in shown
    ]
    return rows


def _thinned(points: tuple[EffectPoint, ...], room: int) -> list[EffectPoint]:
    if len(points) <= room:
        return list(points)
    return [points[place * (len(points) - 1) // max(1, room - 1)] for place in range(room)]


def _interval(point: EffectPoint, low: float, high: float, cells: int, glyphs: Glyphs) -> tuple[Piece, ...]:
    """The interval as a line with a sign where the score lies."""
    reach = high - low or 1.0
    first, middle, last = (round((value - low) / reach * (cells - 1)) for value in (point.low, point.score, point.high))
    first, last = max(0, min(first, middle)), min(cells - 1, max(last, middle))
    return (
        (" " * first + glyphs.rule * (middle - first), "second"),
        ("o", "strong"),
        (glyphs.rule * (last - middle) + " " * (cells - 1 - last), "second"),
    )
