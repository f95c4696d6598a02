"""What the screens look like, compared with stored pictures (`pytest --snapshot-update` makes them anew)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from sessions.packing import Readable
from sessions.reader import SessionReader
from tests.tui.screen_helpers import until
from tui.app import AppResult, ScreenName, TrtuneApp
from tui.clock import ViewClock
from tui.facts import session_facts
from tui.pictures import take_pictures
from tui.terminal import TerminalSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.pilot import Pilot

BUSY_NS = 258_000_000_000
"""Trial 6 is measured at its highest level."""


class SnapCompare(Protocol):
    def __call__(
        self,
        app: TrtuneApp,
        *,
        terminal_size: tuple[int, int],
        run_before: Callable[[Pilot[AppResult]], Awaitable[None]],
    ) -> bool: ...


def compare(snap_compare: SnapCompare, sample: Path, name: ScreenName, size: tuple[int, int], clock: ViewClock) -> bool:
    terminal = TerminalSettings(fps=50.0, animation=False)
    app = TrtuneApp(sample, sessions_dir=sample.parent, mode="replay", terminal=terminal, start_screen=name)

    async def settle(pilot: Pilot[AppResult]) -> None:
        await until(pilot, lambda: app.snapshot is not None)
        app.ask(replace(app.request, clock=clock))
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.clock == clock)
        await pilot.pause(0.2)

    return snap_compare(app, terminal_size=size, run_before=settle)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_live_looks_as_stored(snap_compare: SnapCompare, sample: Path, size: tuple[int, int]) -> None:
    assert compare(snap_compare, sample, "live", size, ViewClock(pinned=False, anchor_ns=BUSY_NS))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_tune_looks_as_stored(snap_compare: SnapCompare, sample: Path, size: tuple[int, int]) -> None:
    assert compare(snap_compare, sample, "tune", size, ViewClock())


def test_log_looks_as_stored(snap_compare: SnapCompare, sample: Path) -> None:
    assert compare(snap_compare, sample, "log", (100, 30), ViewClock())


async def test_pictures_are_made_and_fetch_nothing(sample: Path, tmp_path: Path) -> None:
    paths = await take_pictures(sample, tmp_path / "pictures")

    assert [path.name for path in paths] == ["live.svg", "tune.svg", "requests.svg", "compare.svg"]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "SIMULATED" in text
        assert "@font-face" not in text


def test_session_of_the_pictures_in_the_documents_has_what_they_show() -> None:
    packed = Readable(Path(__file__).parents[1] / "data" / "demo-2.trtune.xz")
    try:
        with SessionReader(packed.path) as reader:
            facts = session_facts(packed.path, reader.meta())
            load = next(source for source in reader.sources() if source.kind == "load")
    finally:
        packed.close()

    assert facts.simulated
    assert facts.search.importance is not None
    assert facts.search.front is not None
    assert facts.search.effects
    assert facts.search.diagnoses
    assert facts.verdict.startswith("proven better")
    assert "slo_met_ratio" in load.columns
