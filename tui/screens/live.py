"""The Live screen: GPUs, KV cache, requests, latencies and throughput at the moment looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.screens.session import SessionScreen
from tui.widgets.gpu_wall import GpuWall, wanted_height
from tui.widgets.plot_grid import PlotGrid
from tui.widgets.server_panel import ServerPanel

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.snapshot import Snapshot


class LiveScreen(SessionScreen):
    """Live: what the GPUs and the server do, what limits them, and how latency and throughput go."""

    CSS_PATH = "live.tcss"

    def compose_body(self) -> ComposeResult:
        """GPUs, server, plots."""
        yield GpuWall()
        yield ServerPanel()
        yield PlotGrid()

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot; the wall of GPUs takes the rows it needs."""
        wall = self.query_one(GpuWall)
        rows = wanted_height(len(snapshot.gpus), self.size.width, self.size.height)
        if wall.styles.height is None or wall.styles.height.value != rows:
            wall.styles.height = rows
        super().show(snapshot)
