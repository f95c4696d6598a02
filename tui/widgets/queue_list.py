"""What runs next, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import fit, shorten
from tui.trial_rows import baseline_params, changes_text
from tui.widgets.lines import Row, title_row

if TYPE_CHECKING:
    from tui.glyphs import Glyphs
    from tui.snapshot import Snapshot


def queue_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """One row per waiting configuration; what does not fit is counted."""
    queue = snapshot.facts.search.queue
    rows: list[Row] = [title_row("queue", width, glyphs, (f"{len(queue)} wait", "dim"))]
    if not queue:
        told = "nothing waits: the search chooses what runs next; e puts a configuration here"
        return [*rows, ((shorten(told, width), "dim"),)]
    why = min(24, max(len(entry.why) for entry in queue), width // 3)
    base = baseline_params(snapshot)
    for place, entry in enumerate(queue):
        if len(rows) == height - 1 and place < len(queue) - 1:
            rows.append(((f"... {len(queue) - place} more", "dim"),))
            break
        told = changes_text({**base, **entry.params}, base)
        rows.append(
            (
                (f"{place + 1:>2} ", "strong"),
                (fit(shorten(entry.why, why), why) + " ", "accent"),
                (shorten(told, max(4, width - why - 4)), ""),
            )
        )
    return rows[:height]
