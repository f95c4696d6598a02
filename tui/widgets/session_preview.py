"""What one session of the list is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from sessions.clock import NS_PER_S
from sessions.text import clean_line
from tui.formatting import number, percent, span, utc_text

if TYPE_CHECKING:
    from tui.session_list import SessionEntry


def preview(entry: SessionEntry) -> Content:
    """The facts of a session as a short text."""
    if entry.facts is None or entry.state is None:
        return Content.assemble((clean_line(entry.path.name), "bold"), f"\n\ncannot be read:\n{entry.error}")
    facts = entry.facts
    objective = facts.objective
    best = "none yet"
    if entry.best is not None:
        best = f"trial {entry.best.number}, {number(entry.best.score)} {objective.unit}".rstrip()
        if entry.gain_ratio is not None:
            best += f", {percent(entry.gain_ratio, signed=True)} against the baseline"
    rows = [
        ("state", f"{entry.state.word}: {entry.state.text}" if entry.state.text else entry.state.word),
        ("server", " ".join(part for part in (facts.engine, facts.url) if part)),
        ("model", facts.model),
        ("workload", facts.workload),
        ("objective", objective.label),
        ("trials", f"{entry.finished} of {entry.trials} finished"),
        ("best", best),
        ("began", utc_text(facts.origin_utc_ns) + " UTC"),
        ("length", span(entry.length_ns / NS_PER_S)),
        ("file", f"{clean_line(entry.path.name)}, {entry.size_bytes / 1e6:.1f} MB"),
    ]
    parts: list[tuple[str, str] | str] = [(facts.name or clean_line(entry.path.stem), "bold")]
    if facts.simulated:
        parts.append(("   SIMULATED", "bold $warning"))
    parts.append("\n\n")
    for label, text in rows:
        if text:
            parts += [(f"{label:<10}", "$foreground 55%"), f"{text}\n"]
    return Content.assemble(*parts)
