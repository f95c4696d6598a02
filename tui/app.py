"""The application: one feed, four screens, and the way they are left."""

from __future__ import annotations

import asyncio
import gc
import signal
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual import events, on
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.messages import TerminalSupportsSynchronizedOutput
from textual.worker import WorkerFailed

from sessions.text import clean_line
from tui.building import ViewRequest
from tui.clock import ViewClock
from tui.config import ScreenConfig, config_path, nearest, read_config
from tui.errands import Errands
from tui.feed import Feed
from tui.front_door import FrontDoor
from tui.glyphs import GLYPH_SETS
from tui.keys import TEXTUAL_ACTIONS, binding_id, key
from tui.messages import CommandSent, FeedFailed, SnapshotReady
from tui.operator import Operator
from tui.pacing import Pacer
from tui.plain import AsciiFilter
from tui.screens.live import LiveScreen
from tui.screens.session import SessionScreen
from tui.snapshot import SessionState, Snapshot
from tui.terminal import TerminalSettings, in_browser, terminal_settings
from tui.theme import THEMES, TRTUNE_THEME
from tui.widgets.lines import INK_CLASSES, INK_CSS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from textual.filter import LineFilter
    from textual.screen import Screen

    from tui.session_list import SessionEntry

BLUR_FPS = 1.0
"""Refreshes a second while the terminal says that nobody looks."""

_SCREENS = Binding.Group("screens", compact=True)

ScreenName = Literal["live", "tune", "sessions", "log"]


def _tune() -> Screen[Any]:
    from tui.screens.tune import TuneScreen

    return TuneScreen()


def _sessions() -> Screen[Any]:
    from tui.screens.sessions import SessionsScreen

    return SessionsScreen()


def _log() -> Screen[Any]:
    from tui.screens.log import LogScreen

    return LogScreen()


@dataclass(frozen=True, slots=True)
class AppResult:
    """How the screen was left: nothing was under way, the work goes on, or the caller is to end it.

    Attributes:
        action: `quit`, `detach` or `stop`; for `stop` the command is left to the caller, who can wait for its effect.
        session: The session shown last.
    """

    action: Literal["quit", "detach", "stop"]
    session: Path | None


class TrtuneApp(App[AppResult]):
    """Shows one session, live or replayed, or the list of sessions.

    Args:
        session: The session to show; None shows the list.
        sessions_dir: Where sessions are kept.
        mode: `live` follows the end of a session that is being written; `replay` starts with the clock at rest.
        read_only: Whether commands to the worker are out of reach.
        terminal: How to behave on this terminal.
        start_screen: Screen to begin with.
        config: The user's own settings.
        door: What the program lends the screen.
        setup: Whether to begin with the wizard.
    """

    TITLE = "trtune"
    CSS_PATH = "trtune.tcss"
    COMPONENT_CLASSES: ClassVar[set[str]] = INK_CLASSES
    DEFAULT_CSS = f"TrtuneApp {{ {INK_CSS} }}"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "live": LiveScreen,
        "tune": _tune,
        "sessions": _sessions,
        "log": _log,
    }
    """Screens are loaded when they are first looked at: the first picture waits for nothing it does not need."""
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]] | None] = [  # type: ignore[misc] # ClassVar in Textual too
        (0, "-tiny-x"),
        (60, "-narrow"),
        (110, "-normal"),
        (160, "-wide"),
    ]
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]] | None] = [  # type: ignore[misc]
        (0, "-tiny-y"),
        (16, "-short"),
        (34, "-tall"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        key("1", "view('live')", "live", group=_SCREENS),
        key("2", "view('tune')", "tune", group=_SCREENS),
        key("3", "view('sessions')", "sessions", group=_SCREENS),
        key("4", "view('log')", "log", group=_SCREENS),
        key("q", "leave", "leave", "Leave the screen; asks whether the work goes on"),
        Binding("ctrl+q,ctrl+c", "leave", "leave", show=False, priority=True),
    ]

    def __init__(
        self,
        session: Path | None,
        *,
        sessions_dir: Path,
        mode: Literal["live", "replay"] = "live",
        read_only: bool = False,
        terminal: TerminalSettings | None = None,
        start_screen: ScreenName | None = None,
        config: ScreenConfig | None = None,
        door: FrontDoor | None = None,
        setup: bool = False,
    ) -> None:
        super().__init__()
        self.session = session
        self.sessions_dir = sessions_dir
        self.read_only = read_only
        self.terminal = terminal if terminal is not None else TerminalSettings()
        self.glyphs = GLYPH_SETS[self.terminal.glyphs]
        self.request = ViewRequest(ViewClock())
        self.snapshot: Snapshot | None = None
        self._mode_asked = mode
        self._start_screen: ScreenName = start_screen or ("live" if session is not None else "sessions")
        self._feed: Feed | None = None
        self.config = config if config is not None else ScreenConfig()
        self.door = door if door is not None else FrontDoor()
        self._setup = setup
        self.operator = Operator(self, read_only=read_only)
        self.errands = Errands(self)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = TRTUNE_THEME.name
        self.known_sessions: dict[Path, SessionEntry] = {}
        """What the list of sessions found last."""
        self._pacer = Pacer(self._write, self._next_frame, self.set_timer)
        self.animation_level = "full" if self.terminal.animation else "none"

    # -- the session ----------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Paint first, then read."""
        if not (self.is_headless or in_browser()):  # where a terminal is to be given back as it was
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
        self._apply_config()
        self.switch_mode(self._start_screen)
        if self.session is not None:
            self.open_session(self.session, self._mode_asked)
        if self._setup:
            self.errands.set_up()

    def open_session(self, path: Path, mode: Literal["live", "replay"]) -> None:
        """Show a session from now on."""
        self.close_session()
        self.session = path
        self.snapshot = None
        self.operator.forget()
        clock = ViewClock() if mode == "live" else ViewClock.at_rest()
        self.request = ViewRequest(clock, logs=self.current_mode == "log")
        self._feed = Feed(path, self.request, self.post_message, self.terminal.fps)
        self._feed.start()

    def close_session(self) -> None:
        """Stop reading."""
        if self._feed is not None:
            self._feed.stop()
            self._feed = None

    def on_unmount(self) -> None:
        """Stop reading when the application ends."""
        self.close_session()

    def ask(self, request: ViewRequest) -> None:
        """Show something else of the session."""
        self.request = request
        if self._feed is not None:
            self._feed.ask(request)

    @on(SnapshotReady)
    def take_snapshot(self, message: SnapshotReady) -> None:
        """Draw a snapshot on the screen in front, and let the next be built once it is painted."""
        if self._feed is None:
            return
        live_before = self.snapshot.state.live if self.snapshot is not None else None
        self.snapshot = message.snapshot
        screen = self.front
        if screen is not None:
            with self.batch_update():
                screen.show(message.snapshot)
            if live_before != message.snapshot.state.live:
                screen.refresh_bindings()
        self.operator.tell_answers(message.snapshot)
        if live_before is None:
            self.call_after_refresh(_stop_waiting_with_garbage)
        self.call_after_refresh(self._pacer.painted)

    @on(TerminalSupportsSynchronizedOutput)
    def take_terminal_answer(self) -> None:
        """The terminal has drawn everything sent before."""
        self._pacer.answered()

    def _next_frame(self) -> None:
        if self._feed is not None:
            self._feed.drawn()

    def _write(self, text: str) -> None:
        if self._driver is not None:
            self._driver.write(text)

    @on(FeedFailed)
    def take_failure(self, message: FeedFailed) -> None:
        """Say that the session cannot be read; what was last read stays, dimmed."""
        if self._feed is None:
            return
        state = SessionState("UNREADABLE", message.text, "bad", live=False, fresh=False)
        before = self.snapshot or Snapshot.empty(self._feed.path, ViewClock())
        self.snapshot = replace(before, state=state, clock=before.clock.follow())
        if self.front is not None:
            self.front.show(self.snapshot)
            self.front.refresh_bindings()

    @property
    def front(self) -> SessionScreen | None:
        """The session screen in front, a dialog over it or not; None on the list of sessions."""
        screens = (screen for screen in reversed(self.screen_stack) if isinstance(screen, SessionScreen))
        return next((screen for screen in screens if screen.ready), None)

    def on_app_blur(self, event: events.AppBlur) -> None:
        """Draw less often while nobody looks."""
        if self._feed is not None:
            self._feed.set_fps(BLUR_FPS)

    def on_app_focus(self, event: events.AppFocus) -> None:
        """Draw at full rate again."""
        if self._feed is not None:
            self._feed.set_fps(self.terminal.fps)

    # -- commands to the worker -----------------------------------------------------------------------------------------

    def command(self, kind: str, args: Mapping[str, Any] | None = None) -> None:
        """Ask the worker for something."""
        self.operator.send(self.session, kind, args)

    @on(CommandSent)
    def take_sent(self, message: CommandSent) -> None:
        """Say that a command is on its way, or why not."""
        self.operator.sent(message)

    # -- the user's own settings ----------------------------------------------------------------------------------------

    def _apply_config(self) -> None:
        problems = list(self.config.problems)
        if self.config.theme:
            if self.config.theme in self.available_themes:
                self.theme = self.config.theme
            else:
                problems.append(
                    f"theme {self.config.theme!r} is unknown{nearest(self.config.theme, self.available_themes)}"
                )
        if self.config.keys:
            from tui.all_keys import all_binding_ids, lost_keys

            known = all_binding_ids()
            wanted = {binding_id(word): keys for word, keys in self.config.keys.items()}
            problems += [f"keys: {name!r} is unknown{nearest(name, known)}" for name in wanted if name not in known]
            keymap = {name: keys for name, keys in wanted.items() if name in known}
            problems += lost_keys(keymap)
            self.set_keymap(keymap)
        for problem in problems:
            self.notify(clean_line(problem), severity="warning", timeout=10, markup=False)

    # -- screens and leaving --------------------------------------------------------------------------------------------

    def action_view(self, name: ScreenName) -> None:
        """Bring a screen to the front."""
        if name != "sessions" and self.session is None:
            self.notify("choose a session first: enter opens it", timeout=2, markup=False)
            return
        self.switch_mode(name)

    def action_leave(self) -> None:
        """Leave; asks first whether the work goes on, if there is any."""
        from tui.screens.leave import LeaveScreen

        if isinstance(self.screen, LeaveScreen):
            self.screen.action_choose("")
        elif self.errands.beginning:
            self.notify("work is beginning: a moment, then leave", timeout=2, markup=False)
        elif self.snapshot is not None and self.snapshot.state.live and self.session is not None:
            self.push_screen(LeaveScreen(self.session.name, may_stop=not self.read_only), self._take_leave)
        else:
            self.leave("quit")

    def _take_leave(self, choice: Literal["detach", "stop"] | None) -> None:
        if choice is not None:
            self.leave(choice)

    def _end(self) -> None:
        """Leave at once: somebody ends the process. The work goes on."""
        self.leave("detach" if self.snapshot is not None and self.snapshot.state.live else "quit")

    def leave(self, action: Literal["quit", "detach", "stop"]) -> None:
        """End the screen."""
        self.close_session()
        self.exit(AppResult(action, self.session))

    def _fatal_error(self) -> None:
        """Close, without Textual's picture of a fault, which shows the values of all variables: see `fault`."""
        self._close_messages_no_wait()

    @property
    def fault(self) -> BaseException | None:
        """What ended the application where nobody left it."""
        return self._exception.error if isinstance(self._exception, WorkerFailed) else self._exception

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and plain characters for a terminal that has no others."""
        filters = super().get_line_filters()
        return [*filters, AsciiFilter()] if self.terminal.glyphs == "ascii" else filters

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Everything a key can do here, for the palette, and Textual's own entries."""
        # Not Textual's own way out, which ends the screen without a question: ours is among the keys.
        yield from (command for command in super().get_system_commands(screen) if command.title != "Quit")
        seen: set[str] = set()
        for node, binding, enabled, _tooltip in screen.active_bindings.values():
            title = binding.description
            if not enabled or not title or binding.system or title in seen or binding.action in TEXTUAL_ACTIONS:
                continue
            seen.add(title)
            action = partial(self.run_action, binding.action, node)
            yield SystemCommand(title, f"{binding.tooltip or title}  [{self.get_key_display(binding)}]", action)


def _stop_waiting_with_garbage() -> None:
    """What lives since the start lives to the end: the collector need not look at it again."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def run_app(
    session: Path | None,
    *,
    sessions_dir: Path,
    mode: Literal["live", "replay"] = "live",
    read_only: bool = False,
    ascii_only: bool = False,
    fps: float | None = None,
    mouse: bool = True,
    start_screen: ScreenName | None = None,
    door: FrontDoor | None = None,
    setup: bool = False,
) -> AppResult:
    """Run the screen until it is left.

    Args:
        session: The session to show; None shows the list.
        sessions_dir: Where sessions are kept.
        mode: `live` or `replay`.
        read_only: Whether commands to the worker are out of reach.
        ascii_only: Whether to draw with ASCII characters only.
        fps: Most refreshes a second; by default what suits the terminal.
        mouse: Whether the mouse is used.
        start_screen: Screen to begin with.
        door: What the program lends the screen.
        setup: Whether to begin with the wizard.

    Returns:
        How it was left.

    Raises:
        Exception: The fault that ended it, if one did; the terminal is as it was before.
    """
    config = read_config(config_path())
    terminal = terminal_settings(ascii_only=ascii_only or config.ascii)
    wanted_fps = fps if fps is not None else config.fps
    if wanted_fps is not None:
        terminal = replace(terminal, fps=wanted_fps)
    app = TrtuneApp(
        session,
        sessions_dir=sessions_dir,
        mode=mode,
        read_only=read_only,
        terminal=terminal,
        start_screen=start_screen,
        config=config,
        door=door,
        setup=setup,
    )
    result = app.run(mouse=mouse and config.mouse)
    if app.fault is not None:
        raise app.fault
    return result if result is not None else AppResult("quit", session)
