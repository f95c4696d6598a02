"""Where a key leads: steps that grow while a key is held, neighbours among trials, and moments that a person types."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tui.snapshot import best_trial, improvements

if TYPE_CHECKING:
    from sessions.records import Event
    from tui.snapshot import Snapshot

NS_PER_S = 1_000_000_000
HELD_S = 0.4
"""Presses of one key closer together than this count as holding it."""

REPEATS_PER_DOUBLING = 4
LARGEST_STEP_RATIO = 0.01
"""A held key moves by at most this share of the session per press."""


class HeldKey:
    """Makes the step of a held key grow: it doubles every four repeats, up to 1 % of the session."""

    def __init__(self) -> None:
        self._action = ""
        self._last_s = 0.0
        self._repeats = 0

    def step_ns(self, action: str, base_ns: int, now_s: float, length_ns: int) -> int:
        """The step for this press of `action`, whose first step is `base_ns`."""
        held = action == self._action and now_s - self._last_s <= HELD_S
        self._repeats = self._repeats + 1 if held else 0
        self._action, self._last_s = action, now_s
        grown = base_ns << min(20, self._repeats // REPEATS_PER_DOUBLING)
        return max(base_ns, min(grown, round(length_ns * LARGEST_STEP_RATIO)))


def sample_step_ns(snapshot: Snapshot) -> int:
    """Distance between samples of the quickest source; 1 s when nothing tells."""
    steps = [
        track.samples[-1].t_ns - track.samples[-2].t_ns
        for track in (*snapshot.gpus, snapshot.engine, snapshot.load)
        if track is not None and len(track.samples) >= 2
    ]
    return max(1_000_000, min(steps, default=NS_PER_S))


def neighbour_trial_ns(snapshot: Snapshot, step: int, *, improved: bool = False) -> int | None:
    """Start of the next (`step` 1) or previous (-1) trial, or of the next that improved the best; None at the edge.

    A moment within a trial has that trial's own start as its previous one.
    """
    objective = snapshot.facts.objective
    trials = improvements(snapshot.all_trials, objective) if improved else list(snapshot.all_trials)
    # An improvement is looked at where it was known: at its end.
    moments = sorted((trial.end_ns or trial.start_ns) if improved else trial.start_ns for trial in trials)
    if step > 0:
        return next((t_ns for t_ns in moments if t_ns > snapshot.at_ns), None)
    return next((t_ns for t_ns in reversed(moments) if t_ns < snapshot.at_ns), None)


def neighbour_mark_ns(snapshot: Snapshot, step: int) -> int | None:
    """The next (`step` 1) or previous (-1) mark; None at the edge."""
    moments = [event.t_ns for event in marks(snapshot)]
    if step > 0:
        return next((t_ns for t_ns in moments if t_ns > snapshot.at_ns), None)
    return next((t_ns for t_ns in reversed(moments) if t_ns < snapshot.at_ns), None)


def marks(snapshot: Snapshot) -> list[Event]:
    """Marks and notes in the order of their moments."""
    return sorted((event for event in snapshot.events if event.kind == "mark"), key=lambda event: event.t_ns)


_OFFSET = re.compile(r"([+-])\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?$")
_UNITS_NS = {"ms": 1_000_000, "s": NS_PER_S, "m": 60 * NS_PER_S, "h": 3600 * NS_PER_S, None: NS_PER_S}
_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2})(u(?:tc)?)?$")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%$")
_TRIAL = re.compile(r"t(?:rial)?\s*(\d+)$")
_MARK = re.compile(r"m(?:ark)?\s*(\d+)$")


def parse_moment(text: str, snapshot: Snapshot) -> int:
    """The moment a person means: `t17`, `best`, `mark 2`, `start`, `end`, `+5m`, `-30s`, `63%`, `12:30`, `1:02:03`, `14:03:10utc`.

    Raises:
        ValueError: If it cannot be understood or does not exist; its text says what is possible.
    """
    wanted = text.strip().lower()
    named = {"start": 0, "end": snapshot.end_ns}
    if wanted in named:
        return named[wanted]
    if wanted == "best":
        found = best_trial(snapshot.all_trials, snapshot.facts.objective, snapshot.facts.winner)
        if found is None:
            raise ValueError("no trial is the best yet")
        return found.start_ns
    if match := _TRIAL.match(wanted):
        trial = next((trial for trial in snapshot.all_trials if trial.number == int(match[1])), None)
        if trial is None:
            raise ValueError(f"there is no trial {match[1]}")
        return trial.start_ns
    if match := _MARK.match(wanted):
        found_marks = marks(snapshot)
        if not 1 <= int(match[1]) <= len(found_marks):
            raise ValueError(f"there is no mark {match[1]}; there are {len(found_marks)}, counted from 1")
        return found_marks[int(match[1]) - 1].t_ns
    if match := _OFFSET.match(wanted):
        offset_ns = round(float(match[2]) * _UNITS_NS[match[3]])
        return _inside(snapshot.at_ns + (offset_ns if match[1] == "+" else -offset_ns), snapshot)
    if match := _PERCENT.match(wanted):
        return _inside(round(snapshot.end_ns * float(match[1]) / 100), snapshot)
    if match := _TIME.match(wanted):
        seconds = int(match[1] or 0) * 3600 + int(match[2]) * 60 + int(match[3])
        return _inside(_from_utc(seconds, snapshot) if match[4] else seconds * NS_PER_S, snapshot)
    raise ValueError(
        f"{text.strip()[:20]!r} is no moment: t17, best, mark 2, start, end, +5m, -30s, 63%, 12:30, 14:03:10utc"
    )


def _inside(t_ns: int, snapshot: Snapshot) -> int:
    return max(0, min(t_ns, snapshot.end_ns))


def _from_utc(seconds_of_day: int, snapshot: Snapshot) -> int:
    """Session time of a UTC time of day, on the day the session began or the day after."""
    origin_ns = snapshot.facts.origin_utc_ns
    if origin_ns <= 0:
        raise ValueError("the session does not say when it began")
    began = datetime.fromtimestamp(origin_ns / NS_PER_S, UTC)
    midnight_ns = (
        origin_ns - round((began - began.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()) * NS_PER_S
    )
    t_ns = midnight_ns + seconds_of_day * NS_PER_S - origin_ns
    return t_ns if t_ns >= -NS_PER_S else t_ns + 86_400 * NS_PER_S
