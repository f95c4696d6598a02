"""The Tune screen: trials as they run, best against baseline, views of the search, detail of one trial."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.containers import Horizontal, Vertical

from tui.formatting import shorten
from tui.keys import key
from tui.screens.choose import ChooseScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.enqueue import enqueue_form
from tui.screens.objective import objective_form
from tui.screens.ranges import RangeChanges, ranges_form
from tui.screens.session import SessionScreen
from tui.trial_rows import baseline_params, changes_text
from tui.widgets.best_panel import BestPanel
from tui.widgets.search_views import SearchViews
from tui.widgets.trial_detail import TrialDetail
from tui.widgets.trial_table import TrialTable

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.snapshot import Snapshot

_STEERING = ("enqueue", "dequeue", "ranges", "objective", "prove")
"""Actions that change what the worker does next."""


MIN_UPPER_ROWS = 14
"""What the comparison of best and baseline needs."""

NARROW_CELLS = 110
"""Below this width the comparison lies under the table, as the style sheet says."""

_OTHER_ROWS = 7
"""Rows of header, timeline and keys."""


class TuneScreen(SessionScreen):
    """Tune: the trials, the best against the baseline, and how the search goes."""

    CSS_PATH = "tune.tcss"
    AUTO_FOCUS = "TrialTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        key("v", "view(1)", "view", "Another view first: history, importance, effect, Pareto, queue"),
        key("V", "view(-1)", "view before", show=False),
        key("n", "knob(1)", "next knob", "The effect of another knob", show=False),
        key("N", "knob(-1)", "knob before", "The effect of the knob before", show=False),
        key("e", "enqueue", "enqueue", "Edit a copy of the chosen trial's settings and run it next"),
        key("u", "dequeue", "unqueue", "Take a waiting configuration out of the queue"),
        key("r", "ranges", "ranges", "Narrow or widen the range of a knob, or fix it"),
        key("o", "objective", "objective", "Change metric, direction or limits; finished trials are judged anew"),
        key("P", "prove", "prove", "End the search and prove the best against the baseline now"),
        key("E", "export", "export", "The best configuration, ready to use"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._upper_height: int | str = ""

    def compose_body(self) -> ComposeResult:
        """Table and comparison above, views of the search and detail below."""
        with Horizontal(id="upper"):
            yield TrialTable()
            yield BestPanel()
        with Horizontal(id="lower"):
            with Vertical(id="views"):
                yield SearchViews()
            yield TrialDetail()

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot, the upper half no taller than it needs."""
        half = max(MIN_UPPER_ROWS, (self.size.height - _OTHER_ROWS) // 2)
        rows = max(MIN_UPPER_ROWS, min(len(snapshot.all_trials) + 2, half))
        wanted: int | str = "3fr" if self.size.width < NARROW_CELLS else rows
        if wanted != self._upper_height:
            self._upper_height = wanted
            self.query_one("#upper").styles.height = wanted
        super().show(snapshot)

    def on_screen_resume(self) -> None:
        """Look at the chosen trial again: other screens look at the one under way."""
        if self.ready and self.query_one(TrialTable).chosen is not None:
            self.choose()
        super().on_screen_resume()

    @on(TrialTable.Opened)
    def open_trial(self) -> None:
        """Look at the requests of the chosen trial."""
        self.action_inspect()

    def action_inspect(self) -> None:
        """Look closer: a GPU, a request of the chosen trial, the iterations."""
        self.trtune.errands.inspect()

    @on(TrialTable.Chosen)
    def choose(self) -> None:
        """Show the detail of the trial under the cursor."""
        chosen = self.query_one(TrialTable).chosen
        if chosen != self.request.selected_trial:
            self.trtune.ask(replace(self.request, selected_trial=chosen))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What steers the search is a command like the others; an export needs somebody who can make it."""
        if action == "export":
            return self.trtune.door.export is not None
        return super().check_action("skip" if action in _STEERING else action, parameters)

    # -- views ----------------------------------------------------------------------------------------------------------

    def action_view(self, step: int) -> None:
        """Begin with another view."""
        self.query_one(SearchViews).turn(step)

    def action_knob(self, step: int) -> None:
        """Show the effect of another knob."""
        if not self.query_one(SearchViews).turn_knob(step):
            self.notify("no effect is known yet", timeout=2, markup=False)

    # -- steering -------------------------------------------------------------------------------------------------------

    def action_enqueue(self) -> None:
        """Edit a copy of the chosen trial's settings and ask the worker to run it."""
        snapshot = self.snapshot
        if snapshot is None or snapshot.selected is None:
            self.notify("there is no trial to copy yet", timeout=2, markup=False)
            return

        def send(params: object) -> None:
            if params is not None:
                self.trtune.command("enqueue", {"params": params})

        self.app.push_screen(enqueue_form(snapshot.selected.params, snapshot.facts.knobs), send)

    def action_dequeue(self) -> None:
        """Choose a waiting configuration and take it out."""
        snapshot = self.snapshot
        if snapshot is None or not snapshot.facts.search.queue:
            self.notify("nothing waits in the queue", timeout=2, markup=False)
            return
        base, queue = baseline_params(snapshot), snapshot.facts.search.queue
        lines = [
            (str(place), shorten(f"{place + 1}  {entry.why}: {changes_text({**base, **entry.params}, base)}", 200))
            for place, entry in enumerate(queue)
        ]

        def send(place: str | None) -> None:
            if place is None or self.snapshot is None:
                return
            wanted, now = queue[int(place)], self.snapshot.facts.search.queue
            if wanted in now:  # places have moved if something has begun meanwhile
                self.trtune.command("dequeue", {"place": now.index(wanted)})
            else:
                self.notify("it waits no longer: nothing was taken out", severity="warning", timeout=4, markup=False)

        self.app.push_screen(ChooseScreen("Take out of the queue", lines, "take out"), send)

    def action_ranges(self) -> None:
        """Edit the ranges of the search."""
        snapshot = self.snapshot
        if snapshot is None or not any(knob.name for knob in snapshot.facts.knobs):
            self.notify("this session searches no settings", timeout=2, markup=False)
            return

        def send(changes: object) -> None:
            for knob, domain in cast("RangeChanges", changes or {}).items():
                self.trtune.command("range", {"knob": knob, "domain": domain})

        self.app.push_screen(ranges_form(snapshot.facts), send)

    def action_objective(self) -> None:
        """Edit what is searched for."""
        if self.snapshot is None:
            return

        def send(wanted: object) -> None:
            if isinstance(wanted, dict):
                self.trtune.command("objective", wanted)

        self.app.push_screen(objective_form(self.snapshot, self.trtune.door), send)

    def action_prove(self) -> None:
        """End the search and prove the best now, after a question."""

        def send(sure: bool | None) -> None:
            if sure:
                self.trtune.command("prove")

        question = "Prove now? The search ends; baseline and best run again in turn, and the session is over then."
        self.app.push_screen(ConfirmScreen(question, "prove"), send)

    def action_export(self) -> None:
        """Choose a form and show the best configuration in it."""
        self.trtune.errands.choose_export()
