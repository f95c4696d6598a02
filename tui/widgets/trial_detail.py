"""The detail of one trial: failure, levels, settings asked for and read back, command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.trial_rows import detail_lines
from tui.widgets.lines import LineWidget, Row, title_row, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.snapshot import Snapshot


class TrialDetail(LineWidget):
    """Everything about the trial under the cursor, wrapped to the width."""

    DEFAULT_CSS = """
    TrialDetail { height: 1fr; }
    """

    def rows(self, snapshot: Snapshot, width: int, height: int) -> Sequence[Row]:
        """As many rows as fit; the last says how much is left."""
        rows: list[Row] = [title_row("trial", width, self.glyphs)]
        for line in detail_lines(snapshot, width):
            rows += wrap(line, width)
        if len(rows) > height:
            left = len(rows) - height + 1
            rows = [*rows[: height - 1], ((f"... {left} more lines", "dim"),)]
        return rows
