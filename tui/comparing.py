"""Reads two trials, of one session or of two, so that they can be shown beside each other. Runs in a thread."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sessions.clock import NS_PER_S
from sessions.errors import SessionError
from sessions.reader import SessionReader
from tui.building import SnapshotBuilder, ViewRequest
from tui.clock import ViewClock

if TYPE_CHECKING:
    from pathlib import Path

    from sessions.comparison import Comparison
    from sessions.records import Trial
    from tui.snapshot import Snapshot

Align = Literal["start of the trial", "start of measuring", "time of day"]
ALIGNS: tuple[Align, ...] = ("start of the trial", "start of measuring", "time of day")


@dataclass(frozen=True, slots=True)
class SideChoice:
    """A trial of a session; None: its best."""

    path: Path
    trial: int | None = None


@dataclass(frozen=True, slots=True)
class ComparedSide:
    """One trial with its samples.

    Attributes:
        choice: Which.
        snapshot: The session at the end of the trial, its window the whole trial.
        trial: The trial.
        measured_ns: Start of the first level, or of the trial.
    """

    choice: SideChoice
    snapshot: Snapshot
    trial: Trial
    measured_ns: int

    @property
    def name(self) -> str:
        """Session and trial."""
        return f"{self.snapshot.facts.name or self.choice.path.stem} trial {self.trial.number}"

    def zero_ns(self, align: Align) -> int:
        """Session time that stands at 0 of the common axis; for the time of day it is that of UTC 0."""
        if align == "time of day":
            return -self.snapshot.facts.origin_utc_ns
        return self.measured_ns if align == "start of measuring" else self.trial.start_ns

    @property
    def span_ns(self) -> tuple[int, int]:
        """Start and end in session time."""
        return self.trial.start_ns, self.trial.end_ns or self.snapshot.end_ns


@dataclass(frozen=True, slots=True)
class Compared:
    """Two trials; `numbers` is None when something was not measured, and `problem` says what."""

    first: ComparedSide
    second: ComparedSide
    numbers: Comparison | None
    problem: str


def read_both(first: SideChoice, second: SideChoice) -> Compared:
    """Everything that is shown of two trials.

    Raises:
        SessionError: If a session cannot be read or has no such trial.
    """
    sides = [_read_side(choice) for choice in (first, second)]
    numbers, problem = _numbers(sides)
    return Compared(sides[0], sides[1], numbers, problem)


def _read_side(choice: SideChoice) -> ComparedSide:
    with SessionReader(choice.path) as reader:
        builder = SnapshotBuilder(reader)
        whole = builder.build(ViewRequest(ViewClock()), now_ns=0, now_utc_ns=time.time_ns())
        trial = _trial(choice, whole)
        end_ns = trial.end_ns if trial.end_ns is not None else whole.end_ns
        clock = ViewClock(pinned=False, anchor_ns=end_ns)
        range_ns = (trial.start_ns, max(end_ns, trial.start_ns + NS_PER_S))
        request = ViewRequest(clock, selected_trial=trial.number, range_ns=range_ns, sampled_trial=trial.number)
        snapshot = builder.build(request, now_ns=0, now_utc_ns=time.time_ns())
        measured = min((level.start_ns for level in snapshot.selected_levels), default=trial.start_ns)
    return ComparedSide(choice, snapshot, trial, measured)


def _trial(choice: SideChoice, whole: Snapshot) -> Trial:
    if choice.trial is None:
        found = whole.best or next((trial for trial in reversed(whole.all_trials) if trial.score is not None), None)
        found = found or (whole.all_trials[-1] if whole.all_trials else None)
    else:
        found = next((trial for trial in whole.all_trials if trial.number == choice.trial), None)
    if found is None:
        which = "no trial" if choice.trial is None else f"no trial {choice.trial}"
        raise SessionError(f"{choice.path.name} has {which} to compare")
    return found


def _numbers(sides: list[ComparedSide]) -> tuple[Comparison | None, str]:
    from sessions.compare import compare, take_side  # numpy stays out of the screen's start

    taken = []
    for side in sides:
        try:
            with SessionReader(side.choice.path) as reader:
                taken.append(take_side(reader, side.trial.number, side.name))
        except SessionError as error:
            return None, str(error).replace(f"{side.choice.path}: ", f"{side.choice.path.name}: ")
    return compare(taken), ""
