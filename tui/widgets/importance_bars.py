"""Which knobs move the score: one bar each, the most important first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import fit, fit_right, percent, shorten
from tui.glyphs import bar
from tui.widgets.lines import Row, title_row

if TYPE_CHECKING:
    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot

_SHARE_CELLS = 6


def importance_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs, knob: str = "") -> list[Row]:
    """The bars as rows; `knob` is the one whose effect is looked at."""
    importance = snapshot.facts.search.importance
    if importance is None:
        told = "not known yet: it takes some finished trials that differ"
        return [title_row("importance of the knobs", width, glyphs), ((shorten(told, width), "dim"),)]
    method = f"{importance.method}, {importance.trials} trials".lstrip(", ")
    rows: list[Row] = [title_row("importance of the knobs", width, glyphs, (method, "dim"))]
    names = min(max((len(name) for name, _ in importance.shares), default=0), max(12, width // 2))
    cells = max(4, width - names - _SHARE_CELLS - 2)
    most = importance.shares[0][1] or 1.0
    for name, share in importance.shares[: max(0, height - 1)]:
        rows.append(
            (
                (fit(_tail(name, names), names), "accent" if name == knob else "" if share >= 0.05 else "dim"),
                (fit_right(percent(share), _SHARE_CELLS) + " ", "strong" if share >= 0.05 else "dim"),
                (bar(glyphs, share / most, cells), "second"),
            )
        )
    return rows


def _tail(name: str, width: int) -> str:
    """The end of a dotted name, which tells more than its beginning."""
    return name if len(name) <= width else ".." + name[-(width - 2) :]
