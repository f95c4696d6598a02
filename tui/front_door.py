"""What the program that starts the screen lends it: the screen may import neither engines nor the tuner.

Everything here is optional: a screen that was lent nothing shows sessions and says what it cannot do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Work = Literal["watch", "bench", "tune"]


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server that answers on this host.

    Attributes:
        url: Its base URL.
        engine: Engine name.
        title: Family in words.
        model: Model it serves, or empty.
        how: How it was found: process, container, port.
    """

    url: str
    engine: str
    title: str
    model: str
    how: str


@dataclass(frozen=True, slots=True)
class FoundEngine:
    """A family of servers that trtune can start here, or why not."""

    name: str
    title: str
    ready: bool
    advice: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What is on this host.

    Attributes:
        servers: Servers that answer.
        gpus: One line per GPU.
        models: Models on disk: what an engine takes as its model, and a few words.
        engines: Engines, those that can be started first.
        notes: What could not be looked at, and why.
    """

    servers: tuple[FoundServer, ...] = ()
    gpus: tuple[str, ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    engines: tuple[FoundEngine, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person chose in the wizard, as typed; `FrontDoor.draft` checks it.

    Attributes:
        work: What is to be done.
        engine: Engine name.
        url: Running server, or empty to start one.
        model: Model name or folder.
        isl: Prompt tokens.
        osl: Output tokens.
        levels: Concurrent requests, separated by commas.
        slos: Limits, separated by commas.
        trials: Most trials.
    """

    work: Work
    engine: str
    url: str = ""
    model: str = ""
    isl: str = "1024"
    osl: str = "128"
    levels: str = "8, 32"
    slos: str = ""
    trials: str = "15"


def _no_forms() -> Sequence[tuple[str, str]]:
    return ()


def _nothing() -> Findings:
    return Findings()


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """Functions of the program; each may take seconds and is called in a thread.

    Attributes:
        presets: Objectives by name, each with a line.
        export_forms: Gives the forms the best configuration can be exported in, each with a line.
        export: Session, trial (None: the best) and form to text. Raises ValueError with one line.
        find: Looks at this host.
        draft: A wish to the plan's text. Raises ValueError with one line.
        begin: A plan's text to the session that its worker has begun. Raises ValueError with one line.
    """

    presets: Sequence[tuple[str, str]] = ()
    export_forms: Callable[[], Sequence[tuple[str, str]]] = _no_forms
    export: Callable[[Path, int | None, str], str] | None = None
    find: Callable[[], Findings] = field(default=_nothing)
    draft: Callable[[Wish], str] | None = None
    begin: Callable[[str], Path] | None = None
