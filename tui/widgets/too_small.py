"""One clear line for a terminal that is too small for anything else."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

MIN_COLUMNS = 60
MIN_ROWS = 16


class TooSmall(Static):
    """Hidden until the screen falls below the smallest size that can be drawn."""

    DEFAULT_CSS = """
    TooSmall { display: none; height: auto; width: 1fr; color: $warning; }
    """

    def __init__(self) -> None:
        super().__init__(Content(f"make the terminal at least {MIN_COLUMNS}x{MIN_ROWS}"))
