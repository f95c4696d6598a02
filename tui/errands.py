"""What several screens offer: copying, exporting, looking closer, comparing, setting up, writing files.

Each screen is loaded when it is first asked for: the first picture waits for nothing it does not need.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.app import TrtuneApp
    from tui.snapshot import Snapshot


class Errands:
    """Runs them for the application; what may take long runs in a thread."""

    def __init__(self, app: TrtuneApp) -> None:
        self._app = app
        self.beginning = False
        """Whether work is beginning that nobody could be told of if the screen were left now."""

    def copy(self, name: str, text: str) -> None:
        """Hand a text to the terminal's clipboard (OSC 52), which works over SSH where the terminal allows it."""
        self._app.copy_to_clipboard(text)
        self._app.notify(f"copied: {name}, where your terminal takes it", timeout=2.5, markup=False)

    def choose_export(self) -> None:
        """Choose a form and show the best configuration in it."""
        if self._app.session is not None:
            self._app.run_worker(partial(self._list_forms, self._app.session), thread=True, group="forms")

    def _list_forms(self, session: Path) -> None:
        self._app.call_from_thread(self._offer_forms, session, self._app.door.export_forms())

    def _offer_forms(self, session: Path, forms: Sequence[tuple[str, str]]) -> None:
        from tui.screens.choose import ChooseScreen
        from tui.screens.export import ExportScreen

        def show(form: str | None) -> None:
            if form is not None:
                self._app.push_screen(ExportScreen(session, None, form))

        lines = [(name, f"{name:<14} {told}") for name, told in forms]
        self._app.push_screen(ChooseScreen("Export the best configuration", lines, "show"), show)

    def inspect(self) -> None:
        """Look closer at what the session screen in front shows."""
        from tui.screens.inspect import InspectScreen

        if not isinstance(self._app.screen, InspectScreen):
            self._app.push_screen(InspectScreen())

    def compare_trial(self) -> None:
        """Choose what to compare the trial looked at with, and show both."""
        from tui.screens.compare import CompareScreen

        app = self._app
        if app.session is not None and app.snapshot is not None and not isinstance(app.screen, CompareScreen):
            app.run_worker(partial(self._list_others, app.session, app.snapshot), thread=True, group="list")

    def _list_others(self, session: Path, snapshot: Snapshot) -> None:
        from tui.screens.compare import choose_other
        from tui.session_list import list_sessions

        entries = list_sessions(self._app.sessions_dir, self._app.known_sessions)
        self._app.call_from_thread(choose_other, self._app, session, snapshot, entries)

    def set_up(self) -> None:
        """Find what is on this host, and begin something."""
        from tui.screens.setup import SetupScreen

        if not isinstance(self._app.screen, SetupScreen):
            self._app.push_screen(SetupScreen())

    def show_begun(self, session: Path) -> None:
        """Show a session that was begun from here, in place of the wizard."""
        from tui.screens.setup import SetupScreen

        if isinstance(self._app.screen, SetupScreen):
            self._app.pop_screen()
        self._app.open_session(session, "live")
        self._app.switch_mode("live")

    def write_new(self, told: str, text: str) -> None:
        """Write a text to a file that does not exist yet, and say so."""
        path = Path(told)
        try:
            path = path.expanduser()
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: nobody has that home folder
            why = error.strerror if isinstance(error, OSError) else error
            self._app.notify(clean_line(f"{path}: {why}: not written"), severity="error", markup=False)
        else:
            self._app.notify(clean_line(f"written: {path.resolve()}"), timeout=4, markup=False)
