"""What the Live, Tune and Log screens share: header, timeline, footer, the clock's keys and the commands to the worker.

Dialogs are loaded when they are first asked for: the first picture waits for nothing it does not need.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.screen import Screen

from sessions.clock import NS_PER_S
from tui.building import DEFAULT_WINDOW_NS, MIN_WINDOW_NS
from tui.formatting import clock_text, shorten
from tui.keys import key
from tui.seeking import HeldKey, neighbour_mark_ns, neighbour_trial_ns, parse_moment, sample_step_ns
from tui.widgets.key_bar import KeyBar
from tui.widgets.lines import LineWidget
from tui.widgets.status import Header, LimitLine, Strip
from tui.widgets.timeline import Timeline
from tui.widgets.too_small import TooSmall

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.app import TrtuneApp
    from tui.building import ViewRequest
    from tui.clock import ViewClock
    from tui.snapshot import Snapshot

_SEEK = Binding.Group("seek", compact=True)
_TRIAL = Binding.Group("trial", compact=True)
_BEST = Binding.Group("best", compact=True)
_SAMPLE = Binding.Group("sample", compact=True)
_SPEED = Binding.Group("speed", compact=True)
_ZOOM = Binding.Group("zoom", compact=True)
_MARK = Binding.Group("to mark", compact=True)

COMMAND_ACTIONS = ("pause", "skip", "stop_work", "detach", "mark", "profile")
"""Actions that ask the worker for something: only while one writes."""


class SessionScreen(Screen[None]):
    """A view of one session at one moment; its subclasses say what lies between header and timeline."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        key("question_mark", "help", "help", "What every key does"),
        key("p", "pause", "pause", "Let the worker pause after the trial it is in, or go on"),
        key("k", "skip", "skip", "End the running trial without a result"),
        key("x", "stop_work", "stop", "End the whole session, after a question"),
        key("d", "detach", "detach", "Leave; the work goes on"),
        key("T", "profile", "profile", "Take a profile of the server, or end the one that is being taken", show=False),
        key("space", "play", "play", "Replay: play or pause"),
        key("left", "seek(-5)", "back", "5 s back; faster while held", group=_SEEK),
        key("right", "seek(5)", "on", "5 s on; faster while held", group=_SEEK),
        key("left_square_bracket", "trial(-1)", "trial before", group=_TRIAL),
        key("right_square_bracket", "trial(1)", "next trial", group=_TRIAL),
        key("left_curly_bracket", "improvement(-1)", "improvement before", group=_BEST),
        key("right_curly_bracket", "improvement(1)", "next improvement", group=_BEST),
        key("left_parenthesis", "to_mark(-1)", "mark before", group=_MARK),
        key("right_parenthesis", "to_mark(1)", "next mark", group=_MARK),
        key("less_than_sign", "speed(-1)", "slower", group=_SPEED),
        key("greater_than_sign", "speed(1)", "faster", group=_SPEED),
        key("f", "follow", "follow", "Go to the end, and stay there while the session grows"),
        key("g", "go_to", "go to", "t17, best, mark 2, +5m, 63%, 12:30, 14:03:10utc"),
        key("z", "zoom_trial", "this trial", "Plots show the trial looked at, and back", group=_ZOOM),
        key("Z", "zoom_all", "whole session", "Plots show the whole session, and back", group=_ZOOM),
        key("minus", "zoom(2.0)", "longer past", group=_ZOOM),
        key("plus,equals_sign", "zoom(0.5)", "shorter past", group=_ZOOM),
        key("a", "zoom_range", "range", "Plots show a range: press once at its start and once at its end", group=_ZOOM),
        key("m", "mark", "mark", "Write a note on the time axis"),
        key("y", "copy", "copy", "Copy a value or a command to the clipboard of your terminal"),
        key("i", "inspect", "inspect", "A GPU, a request's life, the iterations"),
        key("c", "compare", "compare", "Beside another trial or another session"),
        key("comma", "sample(-1)", "sample before", group=_SAMPLE),
        key("full_stop", "sample(1)", "next sample", group=_SAMPLE),
        key("shift+left", "seek(-60)", "1 min back", show=False),
        key("shift+right", "seek(60)", "1 min on", show=False),
        key("ctrl+left", "tenth(-1)", "a tenth of the session back", show=False),
        key("ctrl+right", "tenth(1)", "a tenth of the session on", show=False),
        key("home", "start", "start of the session", show=False),
        key("end", "follow", "end of the session", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._held = HeldKey()
        self._range_from_ns: int | None = None

    def compose_body(self) -> ComposeResult:
        """What lies between header and timeline."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """Header, body, timeline, keys."""
        yield TooSmall()
        yield Header()
        yield Strip()
        yield LimitLine()
        yield from self.compose_body()
        yield Timeline()
        yield KeyBar()

    def show(self, snapshot: Snapshot) -> None:
        """Draw a snapshot with every widget of the screen."""
        for widget in self.query(LineWidget):
            widget.show(snapshot)

    @property
    def trtune(self) -> TrtuneApp:
        """The application, as its own type."""
        return cast("TrtuneApp", self.app)

    @property
    def request(self) -> ViewRequest:
        """What is looked at."""
        return self.trtune.request

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot."""
        return self.trtune.snapshot

    @property
    def ready(self) -> bool:
        """Whether there are widgets to draw with: not before the screen is composed, and not while it goes away."""
        return self.is_mounted and any(isinstance(node, Timeline) for node in self.children)

    def on_mount(self) -> None:
        """Show the newest snapshot once there are widgets to show it with."""
        if self.snapshot is not None and any(isinstance(node, Timeline) for node in self.children):
            self.show(self.snapshot)

    def on_screen_resume(self) -> None:
        """Show the newest snapshot when the screen comes to the front."""
        if self.snapshot is not None and self.ready:
            self.show(self.snapshot)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Commands are shown only while a worker writes, and greyed when only reading is allowed."""
        if action in COMMAND_ACTIONS:
            if self.snapshot is not None and self.snapshot.facts.watching and action in ("pause", "skip"):
                return False
            if action == "mark":
                return self.snapshot is not None
            if self.snapshot is None or not self.snapshot.state.live:
                return False
            return None if self.trtune.read_only and action != "detach" else True
        return True

    # -- the clock ----------------------------------------------------------------------------------------------------

    def _set_clock(self, clock: ViewClock) -> None:
        self.trtune.ask(replace(self.request, clock=clock))

    def _seek(self, at_ns: int) -> None:
        if self.snapshot is None:
            return
        now_ns = time.monotonic_ns()
        self._set_clock(self.request.clock.seek(max(0, min(at_ns, self.snapshot.end_ns)), now_ns))

    @property
    def _at_ns(self) -> int:
        end_ns = self.snapshot.end_ns if self.snapshot is not None else 0
        return self.request.clock.at(time.monotonic_ns(), end_ns)

    def action_play(self) -> None:
        """Play or pause the replay."""
        if self.snapshot is not None:
            self._set_clock(self.request.clock.toggle(time.monotonic_ns(), self.snapshot.end_ns))

    def action_follow(self) -> None:
        """Go to the end, and stay there while the session grows."""
        self._set_clock(self.request.clock.follow())

    def action_start(self) -> None:
        """Go to the start."""
        self._seek(0)

    def action_seek(self, seconds: int) -> None:
        """Go back or on; further per press while the key is held."""
        if self.snapshot is None:
            return
        base_ns = abs(seconds) * NS_PER_S
        step_ns = self._held.step_ns(f"seek{seconds}", base_ns, time.monotonic(), self.snapshot.end_ns)
        self._seek(self._at_ns + (step_ns if seconds > 0 else -step_ns))

    def action_tenth(self, steps: int) -> None:
        """Go back or on by a tenth of the session."""
        if self.snapshot is not None:
            self._seek(self._at_ns + steps * self.snapshot.end_ns // 10)

    def action_sample(self, steps: int) -> None:
        """Go to the sample before or after."""
        if self.snapshot is not None:
            self._seek(self._at_ns + steps * sample_step_ns(self.snapshot))

    def action_trial(self, step: int, improved: bool = False) -> None:
        """Go to the start of the trial before or after."""
        if self.snapshot is None:
            return
        at_ns = neighbour_trial_ns(self.snapshot, step, improved=improved)
        if at_ns is None:
            self.notify("no further one in this direction", timeout=2, markup=False)
        else:
            self._seek(at_ns)

    def action_improvement(self, step: int) -> None:
        """Go to the improvement of the best before or after."""
        self.action_trial(step, improved=True)

    def action_to_mark(self, step: int) -> None:
        """Go to the mark before or after, and tell its text."""
        if self.snapshot is None:
            return
        at_ns = neighbour_mark_ns(self.snapshot, step)
        if at_ns is None:
            self.notify("no further mark in this direction", timeout=2, markup=False)
            return
        self._seek(at_ns)
        told = next(event.text for event in self.snapshot.events if event.kind == "mark" and event.t_ns == at_ns)
        self.notify(shorten(told, 120), timeout=4, markup=False)

    def action_speed(self, steps: int) -> None:
        """Replay faster or slower."""
        if self.snapshot is not None:
            clock = self.request.clock.change_speed(steps, time.monotonic_ns(), self.snapshot.end_ns)
            self._set_clock(clock)
            self.notify(f"replay speed x{clock.speed:g}", timeout=1.5, markup=False)

    @on(Timeline.Seek)
    def seek_to(self, message: Timeline.Seek) -> None:
        """Go to the moment clicked on."""
        self._seek(message.at_ns)

    def action_go_to(self) -> None:
        """Ask for a moment and go there."""
        from tui.screens.prompt import PromptScreen

        def check(text: str) -> str:
            if self.snapshot is None:
                return "nothing is read yet"
            try:
                parse_moment(text, self.snapshot)
            except ValueError as error:
                return str(error)
            return ""

        def go(text: str | None) -> None:
            if text and self.snapshot is not None:
                self._seek(parse_moment(text, self.snapshot))

        self.app.push_screen(
            PromptScreen("Go to", "t17, best, mark 2, end, +5m, -30s, 63%, 12:30, 14:03:10utc", check), go
        )

    # -- the window of the plots ----------------------------------------------------------------------------------------

    def _show_window(self, window_ns: int | None) -> None:
        self.trtune.ask(replace(self.request, window_ns=window_ns, range_ns=None))

    def action_zoom_trial(self) -> None:
        """Plots show the trial looked at; once more: the last five minutes."""
        self._show_window(DEFAULT_WINDOW_NS if self.request.window_ns is None else None)

    def action_zoom_all(self) -> None:
        """Plots show the whole session; once more: the last five minutes."""
        self._show_window(DEFAULT_WINDOW_NS if self.request.window_ns == 0 else 0)

    def action_zoom(self, factor: float) -> None:
        """Plots show a longer or a shorter past."""
        if self.snapshot is None:
            return
        start_ns, end_ns = self.snapshot.window_ns
        window_ns = round((end_ns - start_ns) * factor)
        self._show_window(max(MIN_WINDOW_NS, min(window_ns, 7 * 86_400 * NS_PER_S)))

    def action_zoom_range(self) -> None:
        """First the start of a range, then its end; once more: the last five minutes."""
        if self.snapshot is None:
            return
        if self.request.range_ns is not None:
            self._show_window(DEFAULT_WINDOW_NS)
        elif self._range_from_ns is None:
            self._range_from_ns = self._at_ns
            told = f"range from {clock_text(self._range_from_ns)}: go to its other end and press a again"
            self.notify(told, timeout=4, markup=False)
        else:
            start_ns, end_ns = sorted((self._range_from_ns, self._at_ns))
            self._range_from_ns = None
            range_ns = (start_ns, max(end_ns, start_ns + NS_PER_S))
            self.trtune.ask(replace(self.request, range_ns=range_ns))

    # -- commands to the worker -----------------------------------------------------------------------------------------

    def action_pause(self) -> None:
        """Pause the work, or let it go on."""
        if self.snapshot is not None and self.snapshot.worker is not None:
            self.trtune.command("resume" if self.snapshot.worker.state == "paused" else "pause")

    def action_skip(self) -> None:
        """End the running trial without a result."""
        if self.snapshot is None or self.snapshot.running is None:
            self.notify("no trial is running", timeout=2, markup=False)
        else:
            self.trtune.command("skip", {"trial": self.snapshot.running.number})

    def action_stop_work(self) -> None:
        """End the session, after a question."""
        from tui.screens.confirm import ConfirmScreen

        def stop(sure: bool | None) -> None:
            if sure:
                self.trtune.command("stop")

        question = "Stop this session? The running trial is lost; what is finished stays and can be resumed."
        self.app.push_screen(ConfirmScreen(question, "stop"), stop)

    def action_detach(self) -> None:
        """Leave the screen; the work goes on."""
        self.trtune.leave("detach")

    def action_mark(self) -> None:
        """Write a note: into the session at its present, beside the file at any other moment."""
        from tui.screens.prompt import PromptScreen

        snapshot = self.snapshot
        if snapshot is None:
            return
        if snapshot.state.live and self.request.clock.pinned and not self.trtune.read_only:
            self.app.push_screen(PromptScreen("Mark now", "a note on the time axis"), self._send_mark)
        else:
            at_ns = snapshot.at_ns
            title = f"Note at {clock_text(at_ns)}, kept beside the session"
            self.app.push_screen(
                PromptScreen(title, "a note on the time axis"), lambda text: self._keep_note(at_ns, text)
            )

    def _send_mark(self, text: str | None) -> None:
        if text:
            self.trtune.command("mark", {"text": text})

    def _keep_note(self, at_ns: int, text: str | None) -> None:
        from tui.notes import add_note

        if not text or self.trtune.session is None:
            return
        try:
            add_note(self.trtune.session, at_ns, text)
        except OSError as error:
            told = f"the note cannot be kept in {self.trtune.session.parent}: {error.strerror}"
            self.notify(told, severity="error", markup=False)
        else:
            self.trtune.ask(replace(self.request))

    def action_profile(self) -> None:
        """Begin a profile of the server, or end the one that was begun last."""
        if self.snapshot is None:
            return
        answered = [each for each in self.snapshot.commands if each.kind == "profile" and each.state == "done"]
        taking = bool(answered) and answered[-1].args.get("action") == "start"
        self.trtune.command("profile", {"action": "stop" if taking else "start"})

    # -- looking closer -------------------------------------------------------------------------------------------------

    def action_copy(self) -> None:
        """Choose a value or a command, and hand it to the terminal's clipboard."""
        from tui.copying import copyable
        from tui.screens.choose import ChooseScreen

        if self.snapshot is None:
            return
        found = copyable(self.snapshot)

        def copy(place: str | None) -> None:
            if place is not None:
                self.trtune.errands.copy(*found[int(place)])

        lines = [
            (str(place), shorten(f"{name:<26} {' '.join(text.split())}", 64))
            for place, (name, text) in enumerate(found)
        ]
        self.app.push_screen(ChooseScreen("Copy", lines, "copy"), copy)

    def action_inspect(self) -> None:
        """Look closer: a GPU, a request of the trial under way, the iterations."""
        if self.request.selected_trial is not None:
            self.trtune.ask(replace(self.request, selected_trial=None))
        self.trtune.errands.inspect()

    def action_compare(self) -> None:
        """Choose what to compare the trial looked at with."""
        self.trtune.errands.compare_trial()

    def action_help(self) -> None:
        """Show what every key does."""
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))
