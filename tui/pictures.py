"""Pictures of the screen as SVG, made by the program itself: `python -m tui.pictures SESSION OUTDIR`; SESSION may be a pack."""

from __future__ import annotations

import argparse
import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from sessions.packing import Readable
from tui.app import ScreenName, TrtuneApp
from tui.clock import ViewClock
from tui.comparing import SideChoice
from tui.screens.compare import CompareScreen
from tui.screens.inspect import InspectScreen
from tui.snapshot import best_trial
from tui.widgets.trial_table import TrialTable

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from tui.app import AppResult
    from tui.snapshot import Snapshot

SIZE = (120, 38)
PICTURES: tuple[tuple[ScreenName, tuple[int, int]], ...] = (("live", SIZE), ("tune", (160, 52)))
"""Screens with their sizes: Tune has room for four views of the search there."""
WAIT_S = 30.0

_FONT_FACE = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)


async def take_pictures(session: Path, folder: Path) -> list[Path]:
    """Save pictures of a session: Live, Tune, the requests of the best trial, and the best against the baseline.

    Live and requests are shown just before the best trial ends, when everything is under load; Tune at the end,
    with the detail of the best trial of which the session says what limited it.

    Raises:
        TimeoutError: If the session cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    app = TrtuneApp(session, sessions_dir=session.parent, mode="replay")
    paths: list[Path] = []
    async with app.run_test(size=SIZE) as pilot:
        for name, size in PICTURES:
            await pilot.resize_terminal(*size)
            snapshot = await _shown(app, pilot)
            clock = ViewClock.at_rest() if name == "tune" else ViewClock(False, anchor_ns=_busy_moment(snapshot))
            app.action_view(name)
            app.ask(replace(app.request, clock=clock))
            await _settled(app, pilot, clock)
            if name == "tune":
                await _choose(app, pilot, _told_trial(snapshot))
            paths.append(_save(app, folder, name))
        await pilot.resize_terminal(*SIZE)
        snapshot = await _shown(app, pilot)
        clock = ViewClock(False, anchor_ns=_busy_moment(snapshot))
        app.ask(replace(app.request, clock=clock, selected_trial=snapshot.best.number if snapshot.best else None))
        await _settled(app, pilot, clock)
        app.push_screen(InspectScreen())
        await pilot.pause(1.0)
        paths.append(_save(app, folder, "requests"))
        app.pop_screen()
        app.push_screen(CompareScreen(SideChoice(session, 0), SideChoice(session)))
        for _ in range(round(WAIT_S / 0.5)):
            await pilot.pause(0.5)
            if "results" in app.export_screenshot():
                break
        paths.append(_save(app, folder, "compare"))
    return paths


def _save(app: TrtuneApp, folder: Path, name: str) -> Path:
    path = folder / f"{name}.svg"
    path.write_text(_self_contained(app.export_screenshot(title=f"trtune: {name}")), encoding="utf-8")
    return path


async def _choose(app: TrtuneApp, pilot: Pilot[AppResult], number: int | None) -> None:
    """Put the cursor of the table on a trial, and wait until its detail is shown."""
    table = app.screen.query_one(TrialTable)
    if app.snapshot is None or number is None:
        return
    place = next(place for place, trial in enumerate(app.snapshot.trials) if trial.number == number)
    table.action_move(place - table.cursor_row)
    await pilot.pause(0.5)


def _told_trial(snapshot: Snapshot) -> int | None:
    told = [trial for trial in snapshot.all_trials if trial.number in snapshot.facts.search.diagnoses]
    best = best_trial(tuple(told), snapshot.facts.objective, snapshot.facts.winner) or snapshot.best
    return best.number if best is not None else None


def _busy_moment(snapshot: Snapshot) -> int:
    best = snapshot.best
    if best is None:
        return snapshot.end_ns
    measured = [phase for phase in snapshot.all_phases if phase.trial == best.number and phase.name == "measure"]
    end_ns = measured[-1].end_ns if measured else best.end_ns
    return max(0, (end_ns or snapshot.end_ns) - NS_PER_S)


async def _shown(app: TrtuneApp, pilot: Pilot[AppResult]) -> Snapshot:
    for _ in range(round(WAIT_S / 0.05)):
        if app.snapshot is not None:
            return app.snapshot
        await pilot.pause(0.05)
    raise TimeoutError(f"{app.session} cannot be shown")


async def _settled(app: TrtuneApp, pilot: Pilot[AppResult], clock: ViewClock) -> None:
    for _ in range(round(WAIT_S / 0.05)):
        await pilot.pause(0.05)
        if app.snapshot is not None and app.snapshot.clock == clock:
            await pilot.pause(0.3)
            return
    raise TimeoutError(f"{app.session} cannot be shown")


def _self_contained(svg: str) -> str:
    """The picture without fonts fetched from elsewhere; the reader's own monospace font is used."""
    return _FONT_FACE.sub("", svg)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("session", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    readable = Readable(options.session)
    try:
        asyncio.run(take_pictures(readable.path, options.folder))
    finally:
        readable.close()


if __name__ == "__main__":
    main()
