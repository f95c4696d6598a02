"""The wizard: what is on this host, what to do with it, the plan that says so, and the start."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from sessions.text import clean_line
from tui.formatting import fit, shorten
from tui.front_door import Findings, Wish
from tui.keys import key
from tui.screens.form import Field, FormScreen
from tui.screens.help import HelpScreen
from tui.screens.prompt import PromptScreen
from tui.widgets.key_bar import KeyBar
from tui.widgets.too_small import TooSmall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.app import TrtuneApp
    from tui.front_door import Work

_FIELDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "watch": (("model", "model", "empty: the one it serves"),),
    "bench": (
        ("model", "model", "empty: the one it serves"),
        ("isl", "prompt tokens (ISL)", "a number, or a distribution as in docs/plan.md"),
        ("osl", "output tokens (OSL)", "the same"),
        ("levels", "concurrent requests", "such as 1, 8, 32"),
        ("slos", "limits (SLOs)", "such as ttft:p99:<=:500, tpot:p99:<=:25; may be empty"),
    ),
}
_FIELDS["tune"] = (
    ("model", "model", "name or folder, as the server takes it"),
    *_FIELDS["bench"][1:],
    ("trials", "trials at most", "the baseline included"),
)


class Found(Message):
    """This host was looked at."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        super().__init__()


class Drafted(Message):
    """A wish became a plan, or cannot."""

    def __init__(self, wish: Wish, plan: str, problem: str) -> None:
        self.wish = wish
        self.plan = plan
        self.problem = problem
        super().__init__()


class Begun(Message):
    """A plan's work has begun, or could not."""

    def __init__(self, session: Path | None, problem: str) -> None:
        self.session = session
        self.problem = problem
        super().__init__()


class WishList(OptionList, inherit_bindings=False):
    """What can be done; Enter is the screen's, so that its keys and its help name it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        key("up", "cursor_up", "one up", show=False),
        key("down", "cursor_down", "one down", show=False),
        key("pageup", "page_up", "page up", show=False),
        key("pagedown", "page_down", "page down", show=False),
        key("home", "first", "first of them", show=False),
        key("end", "last", "last of them", show=False),
    ]


class SetupScreen(Screen[None]):
    """Set up: watch, measure or tune a server; what was found on this host is listed, and a plan is written for it."""

    CSS_PATH = "setup.tcss"
    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        key("question_mark", "help", "help", "What every key does"),
        key("enter", "choose", "choose", "Say more about it, then see the plan"),
        key("R", "look", "look again", "Look at this host again"),
        key("escape", "back", "close", "Back to the sessions"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._wishes: list[Wish] = []

    def compose(self) -> ComposeResult:
        """What is here, and what can be done with it."""
        yield TooSmall()
        yield Static(Content(" trtune: what to do"), id="head")
        yield WishList(compact=True)
        yield Static(Content("looking at this host ..."), id="here")
        yield KeyBar()

    def on_mount(self) -> None:
        """Look at this host in a thread."""
        self.action_look()

    @property
    def trtune(self) -> TrtuneApp:
        """The application, as its own type."""
        return cast("TrtuneApp", self.app)

    def action_look(self) -> None:
        """Look at this host again."""
        self.query_one("#here", Static).update(Content("looking at this host ..."))
        self.run_worker(lambda: self.post_message(Found(self.trtune.door.find())), thread=True, group="find")

    @on(Found)
    def take_findings(self, message: Found) -> None:
        """List what can be done, what was found first."""
        offers = list(_offers(message.findings))
        self._wishes = [wish for wish, _ in offers]
        choices = self.query_one(OptionList)
        choices.clear_options()
        choices.add_options([Option(Content(clean_line(text))) for _, text in offers])
        if offers:
            choices.highlighted = 0
        self.query_one("#here", Static).update(_here(message.findings))

    @on(OptionList.OptionSelected)
    def take_choice(self, event: OptionList.OptionSelected) -> None:
        """Ask for what the plan needs."""
        self._ask(self._wishes[event.option_index])

    def action_choose(self) -> None:
        """Ask for what the plan needs."""
        place = self.query_one(OptionList).highlighted
        if place is not None and place < len(self._wishes):
            self._ask(self._wishes[place])

    def _ask(self, wish: Wish, problem: str = "") -> None:
        names = _FIELDS.get(wish.work, ())
        if wish.engine == DEMO:
            self._draft(wish)
            return

        def read(texts: Sequence[str]) -> Wish:
            typed: dict[str, Any] = {name: text.strip() for (name, _, _), text in zip(names, texts, strict=True)}
            return replace(wish, **typed)

        fields = [Field(label, getattr(wish, name), hint) for name, label, hint in names]
        where = wish.url or f"a server of trtune's own ({wish.engine})"
        form = FormScreen(f"{wish.work}: {where}", fields, read, "see the plan", problem)
        self.app.push_screen(form, lambda told: self._draft(told) if isinstance(told, Wish) else None)

    def _draft(self, wish: Wish) -> None:
        draft = self.trtune.door.draft
        if draft is None:
            self.notify("this screen was started without the program that writes plans", severity="error", markup=False)
            return
        self.run_worker(partial(self._write_draft, draft, wish), thread=True, group="draft")

    def _write_draft(self, draft: Callable[[Wish], str], wish: Wish) -> None:
        try:
            self.post_message(Drafted(wish, draft(wish), ""))
        except ValueError as error:
            self.post_message(Drafted(wish, "", clean_line(str(error))))

    @on(Drafted)
    def take_draft(self, message: Drafted) -> None:
        """Show the plan, or the form again with what is wrong."""
        if message.problem:
            self._ask(message.wish, message.problem)
        else:
            self.app.push_screen(PlanScreen(message.plan), partial(self._take_plan, message.wish))

    def _take_plan(self, wish: Wish, started: bool | None) -> None:
        if started is False:
            self._ask(wish)

    def action_help(self) -> None:
        """Show what every key does."""
        self.app.push_screen(HelpScreen(self))

    def action_back(self) -> None:
        """Back to the sessions."""
        self.app.pop_screen()


DEMO = "demo"
"""Stands for the plan that comes with trtune."""


def _offers(findings: Findings) -> Sequence[tuple[Wish, str]]:
    """What can be done here, each with a line."""
    offers: list[tuple[Wish, str]] = []
    for server in findings.servers:
        told = f"{server.url}  {server.title}  {server.model}  ({server.how})"
        for work, does in (("watch", "watch it"), ("bench", "measure it")):
            wish = Wish(cast("Work", work), server.engine, url=server.url, model=server.model)
            offers.append((wish, f"{fit(does, 12)} {shorten(told, 160)}"))
    model = findings.models[0][0] if findings.models else ""
    for engine in findings.engines:
        if engine.ready:
            text = f"{fit('tune', 12)} a {engine.title} server that trtune starts: {engine.advice}"
            offers.append((Wish("tune", engine.name, model=model), shorten(text, 180)))
    offers.append((Wish("tune", DEMO), f"{fit('demo', 12)} tune a simulated TensorRT-LLM server: no GPU is needed"))
    return offers


def _here(findings: Findings) -> Content:
    parts: list[tuple[str, str] | str] = []

    def section(title: str, lines: Sequence[str], none: str) -> None:
        parts.append((f"\n{title}\n", "bold $primary"))
        parts.extend(f"  {clean_line(line)}\n" for line in lines or (none,))

    section("GPUs", findings.gpus, "none that can be read here")
    section("models on disk", [f"{name}  {told}" for name, told in findings.models[:8]], "none found")
    absent = [f"{engine.title}: {engine.advice}" for engine in findings.engines if not engine.ready]
    section("servers that cannot be started here", absent[:8], "none")
    if findings.notes:
        section("not looked at", findings.notes, "")
    return Content.assemble(*parts)


class PlanScreen(ModalScreen[bool]):
    """The plan as a file would have it: start it, write it, or change it. Gives True once started, False to change it.

    Args:
        plan: Its text.
    """

    CSS_PATH = "setup.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        key("enter", "start", "start", "Begin the work; it goes on without this screen"),
        key("w", "write", "write", "Write the plan to a new file"),
        key("escape,e", "change", "change", "Back to the form"),
    ]

    def __init__(self, plan: str) -> None:
        super().__init__()
        self._plan = plan

    def compose(self) -> ComposeResult:
        """The text and its keys."""
        with Vertical(classes="dialog plan"):
            yield Static(Content("The plan"), classes="dialog-title")
            with VerticalScroll():
                yield Static(Content("\n".join(clean_line(line) for line in self._plan.splitlines())))
            yield Static(Content(""), id="problem")
            yield Static(Content("enter start    w write to a file    esc change"), classes="keys")

    def action_start(self) -> None:
        """Begin the work in a thread: a worker takes a second to give its first sign of life."""
        app = cast("TrtuneApp", self.app)
        begin = app.door.begin
        if begin is None or app.errands.beginning:
            return
        app.errands.beginning = True
        self.query_one("#problem", Static).update(Content("starting ..."))
        self.run_worker(partial(self._begin, begin), thread=True, group="begin")

    def _begin(self, begin: Callable[[str], Path]) -> None:
        try:
            self.post_message(Begun(begin(self._plan), ""))
        except ValueError as error:
            self.post_message(Begun(None, clean_line(str(error))))

    @on(Begun)
    def take_begun(self, message: Begun) -> None:
        """Show the session that has begun, or why it has not."""
        cast("TrtuneApp", self.app).errands.beginning = False
        if message.session is None:
            self.query_one("#problem", Static).update(Content(message.problem))
            return
        self.dismiss(True)
        cast("TrtuneApp", self.app).errands.show_begun(message.session)

    def action_write(self) -> None:
        """Ask for a file that does not exist yet, and write the plan."""
        self.app.push_screen(PromptScreen("Write the plan to", "a new file, such as plan.toml"), self._write)

    def _write(self, told: str | None) -> None:
        if told:
            cast("TrtuneApp", self.app).errands.write_new(told, self._plan)

    def action_change(self) -> None:
        """Back to the form, unless the work is beginning."""
        if not cast("TrtuneApp", self.app).errands.beginning:
            self.dismiss(False)
