"""What the Live, Tune and Log screens share: header, timeline, footer, the clock's keys and the commands to the worker."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.screen import Screen

from tui.building import DEFAULT_WINDOW_NS, MIN_WINDOW_NS
from tui.screens.confirm import ConfirmScreen
from tui.screens.help import HelpScreen
from tui.screens.prompt import PromptScreen
from tui.seeking import HeldKey, neighbour_trial_ns, parse_moment, sample_step_ns
from tui.snapshot import NS_PER_S
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

COMMAND_ACTIONS = ("pause", "skip", "stop_work", "detach", "mark")
"""Actions that ask the worker for something: only while one writes."""


class SessionScreen(Screen[None]):
    """A view of one session at one moment; its subclasses say what lies between header and timeline."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", key_display="?", tooltip="What every key does"),
        Binding("p", "pause", "pause", tooltip="Let the worker pause after the trial it is in, or go on"),
        Binding("k", "skip", "skip", tooltip="End the running trial without a result"),
        Binding("x", "stop_work", "stop", tooltip="End the whole session, after a question"),
        Binding("d", "detach", "detach", tooltip="Leave; the work goes on"),
        Binding("space", "play", "play", key_display="space", tooltip="Replay: play or pause"),
        Binding("left", "seek(-5)", "back", key_display="←", group=_SEEK, tooltip="5 s back; faster while held"),
        Binding("right", "seek(5)", "on", key_display="→", group=_SEEK, tooltip="5 s on; faster while held"),
        Binding("left_square_bracket", "trial(-1)", "trial before", key_display="[", group=_TRIAL),
        Binding("right_square_bracket", "trial(1)", "next trial", key_display="]", group=_TRIAL),
        Binding("left_curly_bracket", "improvement(-1)", "improvement before", key_display="{", group=_BEST),
        Binding("right_curly_bracket", "improvement(1)", "next improvement", key_display="}", group=_BEST),
        Binding("less_than_sign", "speed(-1)", "slower", key_display="<", group=_SPEED),
        Binding("greater_than_sign", "speed(1)", "faster", key_display=">", group=_SPEED),
        Binding("f", "follow", "follow", tooltip="Go to the end, and stay there while the session grows"),
        Binding("g", "go_to", "go to", tooltip="t17, best, +5m, 63%, 12:30, 14:03:10utc"),
        Binding("z", "zoom_trial", "this trial", group=_ZOOM, tooltip="Plots show the trial looked at, and back"),
        Binding("Z", "zoom_all", "whole session", group=_ZOOM, tooltip="Plots show the whole session, and back"),
        Binding("minus", "zoom(2.0)", "longer past", key_display="-", group=_ZOOM),
        Binding("plus,equals_sign", "zoom(0.5)", "shorter past", key_display="+", group=_ZOOM),
        Binding("m", "mark", "mark", tooltip="Write a note on the time axis"),
        Binding("comma", "sample(-1)", "sample before", key_display=",", group=_SAMPLE),
        Binding("full_stop", "sample(1)", "next sample", key_display=".", group=_SAMPLE),
        Binding("shift+left", "seek(-60)", "1 min back", show=False),
        Binding("shift+right", "seek(60)", "1 min on", show=False),
        Binding("ctrl+left", "tenth(-1)", "a tenth of the session back", show=False),
        Binding("ctrl+right", "tenth(1)", "a tenth of the session on", show=False),
        Binding("home", "start", "start of the session", show=False),
        Binding("end", "follow", "end of the session", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._held = HeldKey()

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

    def on_screen_resume(self) -> None:
        """Show the newest snapshot when the screen comes to the front."""
        if self.snapshot is not None:
            self.show(self.snapshot)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Commands are shown only while a worker writes, and greyed when only reading is allowed."""
        if action in COMMAND_ACTIONS:
            if self.snapshot is not None and self.snapshot.facts.watching and action in ("pause", "skip"):
                return False
            if self.snapshot is None or not self.snapshot.state.live:
                return action == "mark" and self.snapshot is not None
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
            PromptScreen("Go to", "t17, best, start, end, +5m, -30s, 63%, 12:30, 14:03:10utc", check), go
        )

    # -- the window of the plots ----------------------------------------------------------------------------------------

    def action_zoom_trial(self) -> None:
        """Plots show the trial looked at; once more: the last five minutes."""
        again = self.request.window_ns is None
        self.trtune.ask(replace(self.request, window_ns=DEFAULT_WINDOW_NS if again else None))

    def action_zoom_all(self) -> None:
        """Plots show the whole session; once more: the last five minutes."""
        again = self.request.window_ns == 0
        self.trtune.ask(replace(self.request, window_ns=DEFAULT_WINDOW_NS if again else 0))

    def action_zoom(self, factor: float) -> None:
        """Plots show a longer or a shorter past."""
        if self.snapshot is None:
            return
        start_ns, end_ns = self.snapshot.window_ns
        window_ns = round((end_ns - start_ns) * factor)
        self.trtune.ask(replace(self.request, window_ns=max(MIN_WINDOW_NS, min(window_ns, 7 * 86_400 * NS_PER_S))))

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

        def stop(sure: bool | None) -> None:
            if sure:
                self.trtune.command("stop")

        question = "Stop this session? The running trial is lost; what is finished stays and can be resumed."
        self.app.push_screen(ConfirmScreen(question, "stop"), stop)

    def action_detach(self) -> None:
        """Leave the screen; the work goes on."""
        self.trtune.leave("detach")

    def action_mark(self) -> None:
        """Write a note on the time axis, at the present moment."""
        if self.snapshot is None or not self.snapshot.state.live:
            self.notify("a note can be written only while the worker is running: this session is over", markup=False)
        elif self.trtune.read_only:
            self.notify("this screen only reads (--read-only)", markup=False)
        else:
            self.app.push_screen(PromptScreen("Mark now", "a note on the time axis"), self._send_mark)

    def _send_mark(self, text: str | None) -> None:
        if text:
            self.trtune.command("mark", {"text": text})

    def action_help(self) -> None:
        """Show what every key does."""
        self.app.push_screen(HelpScreen(self))
