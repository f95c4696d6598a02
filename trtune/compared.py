"""A comparison in the terminal: tables, and distributions over each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.report.figures import show
from sessions.report.outcome import change_words, estimate_words, judgement
from sessions.report.scales import short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sessions.comparison import Comparison, Difference, Distribution, LoadComparison
    from tui.glyphs import Glyphs


def comparison_lines(told: Comparison, glyphs: Glyphs) -> Iterator[str]:
    """The comparison, a line at a time."""
    names = [side.name for side in told.sides]
    for side in told.sides:
        simulated = "  (SIMULATED)" if side.simulated else ""
        yield f"{side.name}: trial {side.trial.number} of {side.path}{simulated}"
    yield from _differences("settings", names, told.params)
    yield from _differences("conditions", names, told.conditions)
    for load in told.loads:
        yield from ("", f"at {load.label}:", *_load_table(names, load))
    if told.loads:
        for each in told.loads[0].distributions:
            yield from ("", *_distribution(each, names, glyphs))
    yield from ("", told.method, *told.notes)


def _differences(heading: str, names: Sequence[str], differences: Sequence[Difference]) -> Iterator[str]:
    if not differences:
        yield from ("", f"{heading}: the same")
        return
    rows = [[heading, *names], *([each.name, *map(show, each.values)] for each in differences)]
    yield from ("", *_aligned(rows, right=False))


def _load_table(names: Sequence[str], load: LoadComparison) -> list[str]:
    heads = ["", names[0]]
    for name in names[1:]:
        heads += [name, "change", ""]
    rows = [heads]
    for row in load.metrics:
        unit = "" if row.unit == "ratio" else f" {row.unit}"
        cells = [f"{row.label}{unit}", estimate_words(row.estimates[0])]
        for estimate, change in zip(row.estimates[1:], row.changes[1:], strict=True):
            cells += [estimate_words(estimate), change_words(change), judgement(change)]
        rows.append(cells)
    return _aligned(rows, right=True)


def _aligned(rows: Sequence[Sequence[str]], *, right: bool) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _distribution(told: Distribution, names: Sequence[str], glyphs: Glyphs) -> Iterator[str]:
    """A row of heights for each side, over the same bins."""
    width = max(len(name) for name in names)
    highest = max((max(shares) for shares in told.shares if shares), default=0.0) or 1.0
    yield f"distribution of {told.metric}, {told.unit}:"
    for name, shares in zip(names, told.shares, strict=True):
        last = len(glyphs.steps) - 1
        heights = [min(last, -int(-share / highest * last // 1)) for share in shares]
        yield f"{name.ljust(width)} |{''.join(glyphs.steps[height] for height in heights) or 'not measured'}|"
    low, high = short(told.edges[0]), short(told.edges[-1])
    yield f"{' ' * width}  {low}{high.rjust(len(told.edges) - 1 - len(low))}"
