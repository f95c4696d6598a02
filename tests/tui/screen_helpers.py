"""Drives the application in tests, and reads what it shows."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from tui.app import AppResult, ScreenName, TrtuneApp
from tui.building import SnapshotBuilder, ViewRequest
from tui.clock import ViewClock
from tui.terminal import TerminalSettings
from tui.widgets.lines import Row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from textual.pilot import Pilot

    from sessions.reader import SessionReader
    from tui.config import ScreenConfig
    from tui.front_door import FrontDoor
    from tui.snapshot import Snapshot

LIMIT_S = 15.0
S = 1_000_000_000


def snapshot_of(reader: SessionReader, *, at_s: float | None = None, window_s: float | None = None) -> Snapshot:
    """The snapshot of a moment; at the end, following, when none is given."""
    clock = ViewClock() if at_s is None else ViewClock(pinned=False, anchor_ns=round(at_s * S))
    request = ViewRequest(clock, logs=True)
    if window_s is not None:
        request = ViewRequest(clock, round(window_s * S), logs=True)
    return SnapshotBuilder(reader).build(request, now_ns=0, now_utc_ns=time.time_ns())


def text_of(rows: Sequence[Row]) -> str:
    """Rows as plain text."""
    return "\n".join("".join(text for text, _ in row) for row in rows)


@asynccontextmanager
async def running_app(
    session: Path | None,
    *,
    size: tuple[int, int] = (120, 40),
    mode: Literal["live", "replay"] = "replay",
    screen: ScreenName | None = None,
    read_only: bool = False,
    sessions_dir: Path | None = None,
    terminal: TerminalSettings | None = None,
    config: ScreenConfig | None = None,
    door: FrontDoor | None = None,
) -> AsyncIterator[tuple[TrtuneApp, Pilot[AppResult]]]:
    """The application in a pretended terminal, with its first snapshot drawn."""
    folder = sessions_dir or (session.parent if session is not None else None)
    assert folder is not None
    app = TrtuneApp(
        session,
        sessions_dir=folder,
        mode=mode,
        read_only=read_only,
        terminal=terminal or TerminalSettings(fps=50.0, animation=False),
        start_screen=screen,
        config=config,
        door=door,
    )
    async with app.run_test(size=size, notifications=True) as pilot:
        if session is not None:
            await until(pilot, lambda: app.snapshot is not None)
        await pilot.pause()
        yield app, pilot


async def until(pilot: Pilot[AppResult], holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        await pilot.pause(0.02)
    await pilot.pause()


def at_s(app: TrtuneApp) -> float:
    """The moment shown, in seconds."""
    assert app.snapshot is not None
    return app.snapshot.at_ns / S


async def sought(app: TrtuneApp, pilot: Pilot[AppResult], *keys: str) -> float:
    """Press keys and give the moment shown then, in seconds."""
    await pilot.press(*keys)
    await until(pilot, lambda: app.snapshot is not None and app.snapshot.clock == app.request.clock)
    return at_s(app)


def shown(app: TrtuneApp) -> str:
    """What the terminal shows, as text."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line)[: width * 2] for line in lines[:height])


def revive(path: Path) -> None:
    """Make the worker of a session this very process, alive now."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE worker SET pid = ?, host = ?, heartbeat_utc_ns = ?",
            (os.getpid(), platform.node(), time.time_ns() + 3600 * S),
        )
    connection.close()
