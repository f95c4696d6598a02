"""The Tune screen: trials as they run, best against baseline, optimisation history, detail of one trial."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable

from tui.screens.enqueue import EnqueueScreen
from tui.screens.session import SessionScreen
from tui.widgets.best_panel import BestPanel
from tui.widgets.history_plot import HistoryPlot
from tui.widgets.trial_detail import TrialDetail
from tui.widgets.trial_table import TrialTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from sessions.records import Params
    from tui.snapshot import Snapshot


class TuneScreen(SessionScreen):
    """Tune: the trials, the best against the baseline, and how the search goes."""

    CSS_PATH = "tune.tcss"
    AUTO_FOCUS = "TrialTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "enqueue", "enqueue", tooltip="Edit a copy of the chosen trial's settings and run it next"),
    ]

    def compose_body(self) -> ComposeResult:
        """Table and comparison above, history and detail below."""
        with Horizontal(id="upper"):
            yield TrialTable()
            yield BestPanel()
        with Horizontal(id="lower"):
            with Vertical(id="history"):
                yield HistoryPlot()
            yield TrialDetail()

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot; the table at most once a second."""
        super().show(snapshot)
        self.query_one(TrialTable).show(snapshot)

    @on(DataTable.RowHighlighted)
    def choose(self) -> None:
        """Show the detail of the trial under the cursor."""
        chosen = self.query_one(TrialTable).chosen
        if chosen != self.request.selected_trial:
            self.trtune.ask(replace(self.request, selected_trial=chosen))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enqueueing is a command like the others."""
        return super().check_action("skip" if action == "enqueue" else action, parameters)

    def action_enqueue(self) -> None:
        """Edit a copy of the chosen trial's settings and ask the worker to run it."""
        snapshot = self.snapshot
        if snapshot is None or snapshot.selected is None:
            self.notify("there is no trial to copy yet", timeout=2, markup=False)
            return
        self.app.push_screen(EnqueueScreen(snapshot.selected.params, snapshot.facts.knobs), self._enqueue)

    def _enqueue(self, params: Params | None) -> None:
        if params is not None:
            self.trtune.command("enqueue", {"params": params})
