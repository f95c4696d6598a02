"""Builds a snapshot from a session file. Runs in a thread of its own; never touches a widget."""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from sessions.records import RUNNING
from tui.facts import session_facts
from tui.harmless import all_harmless, harmless
from tui.lanes import lanes_of, shown_gpus, track_of
from tui.liveness import session_state
from tui.notes import notes_key, read_notes
from tui.snapshot import SessionFacts, Snapshot, baseline_trial, best_trial
from tui.tracks import TrackCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessions.reader import SessionReader
    from sessions.records import Command, Event, LevelRecord, LogLine, Phase, Trial, WorkerStatus
    from tui.clock import ViewClock
    from tui.track import Track

DEFAULT_WINDOW_NS = 5 * 60 * NS_PER_S
MIN_WINDOW_NS = 10 * NS_PER_S
_YOUNG_NS = tuple(seconds * NS_PER_S for seconds in (30, 60, 120, 300))
LOG_LINES = 2000
"""Log lines kept for the log screen."""

SILENT_REFRESH_S = 1.0
"""How often the age of a silent worker is shown anew."""

_CHEAP_S = 0.02
_REST = 10.0
"""Reading a long history again, one that takes longer than `_CHEAP_S`, may take one part in so many of the time."""


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """What the screen wants to see.

    Attributes:
        clock: The moment.
        window_ns: Length of the plots; 0 is the whole session; None is the trial looked at.
        selected_trial: Trial whose details are wanted, or None for the one under way.
        range_ns: Start and end of the plots, in place of `window_ns`.
        logs: Whether log lines are wanted.
        sampled_trial: Trial whose server and load are wanted where trials run side by side, or None for the newest under way.
    """

    clock: ViewClock
    window_ns: int | None = DEFAULT_WINDOW_NS
    selected_trial: int | None = None
    range_ns: tuple[int, int] | None = None
    logs: bool = False
    sampled_trial: int | None = None


@dataclass(frozen=True, slots=True)
class _History:
    """What changes rarely: read again only after the file has changed."""

    facts: SessionFacts
    trials: tuple[Trial, ...] = ()
    phases: tuple[Phase, ...] = ()
    events: tuple[Event, ...] = ()
    commands: tuple[Command, ...] = ()
    boundaries_ns: tuple[int, ...] = ()
    lanes: Mapping[int, str] = field(default_factory=dict)

    def lane(self, trial: int | None) -> str | None:
        """Name of the lane on which a trial runs beside others (empty: the one without a name); None when not known."""
        return self.lanes.get(trial, "") if self.lanes and trial is not None else None

    def winner(self, at_ns: int) -> int | None:
        """The trial that the proof found to be the best, once that was known."""
        known = any(event.kind == "verdict" and event.t_ns <= at_ns for event in self.events)
        return self.facts.winner if known else None


class SnapshotBuilder:
    """Turns a session file, a moment and a window into a snapshot, reading as little as it can."""

    def __init__(self, reader: SessionReader) -> None:
        self._reader = reader
        self._tracks: dict[int, TrackCache] = {}
        self._history = _History(session_facts(reader.path, reader.meta()))
        self._history_cost_s = 0.0
        self._history_read_s = -1e9
        self._history_pending = True
        self._changed = True
        self._built_s = 0.0
        self._worker: WorkerStatus | None = None
        self._end_ns = 0
        self._trials: tuple[Trial, ...] = ()
        self._trials_key: tuple[int, int] = (-1, -1)
        self._generation = 0
        self._notes = (0, 0)

    @property
    def end_ns(self) -> int:
        """The latest moment recorded, as of the last build."""
        return self._end_ns

    def due(self) -> bool:
        """Whether something may look different since the last build: new data, or a worker that has grown silent."""
        self._look()
        silent = self._worker is not None and not self._worker.over
        return (
            self._changed or self._history_pending or (silent and time.monotonic() - self._built_s >= SILENT_REFRESH_S)
        )

    def _look(self) -> None:
        notes = notes_key(self._reader.path)
        if self._reader.changed():
            self._changed = self._history_pending = True
        elif notes != self._notes:
            self._history_pending = True
        self._notes = notes

    def build(self, request: ViewRequest, *, now_ns: int, now_utc_ns: int) -> Snapshot:
        """The snapshot of a request.

        Args:
            request: What is wanted.
            now_ns: CLOCK_MONOTONIC, for a clock that plays.
            now_utc_ns: Wall clock, for the age of the worker's sign of life.

        Raises:
            DamagedData: If something stored cannot be read.
        """
        reader = self._reader
        self._look()
        if self._changed:
            self._end_ns = reader.end_ns()
            worker = reader.worker()
            self._worker = worker and harmless(worker)
            self._changed = False
        self._built_s = time.monotonic()
        self._read_history()
        history = self._history
        at_ns = request.clock.at(now_ns, self._end_ns)
        trials = self._trials_at(at_ns)
        under_way = [trial for trial in trials if trial.state == RUNNING]
        running = under_way[-1] if under_way else None
        selected = _selected(trials, request.selected_trial, running)
        looked_at = running or selected
        sampled = request.sampled_trial
        if sampled is None and looked_at is not None:
            sampled = looked_at.number
        lane = history.lane(sampled)
        selected_lane = history.lane(selected.number if selected is not None else None)
        window_ns = request.range_ns or self._window(request.window_ns, at_ns, looked_at)
        sources = self._sources(window_ns[0], at_ns)
        phase, level = self._under_way(running, at_ns)
        since_ns = running.start_ns if running is not None else 0
        engine, load = track_of(sources["engine"], lane), track_of(sources["load"], lane)
        return Snapshot(
            facts=history.facts,
            state=session_state(reader.path, self._worker, now_utc_ns),
            worker=self._worker,
            clock=request.clock,
            at_ns=at_ns,
            end_ns=self._end_ns,
            window_ns=window_ns,
            gpus=shown_gpus(sources["gpu"]),
            engine=engine and replace(engine, since_ns=since_ns),
            load=replace(load, since_ns=since_ns) if load is not None and load.newest is not None else None,
            lane=lane or "",
            selected_lane=selected_lane or "",
            side_by_side=len(under_way),
            trials=trials,
            running=running,
            phase=phase,
            level=level,
            baseline=baseline_trial(trials),
            best=best_trial(trials, history.facts.objective, history.winner(at_ns)),
            selected=selected,
            selected_levels=self._levels(selected, at_ns) if selected else (),
            all_trials=history.trials,
            all_phases=history.phases,
            events=history.events,
            commands=history.commands,
            logs=self._logs(at_ns) if request.logs else (),
        )

    def _read_history(self) -> None:
        started_s = time.monotonic()
        if not self._history_pending:
            return
        costly = self._history_cost_s > _CHEAP_S
        if costly and started_s - self._history_read_s < self._history_cost_s * _REST:
            return
        before_s = time.thread_time()
        reader = self._reader
        trials = all_harmless(reader.trials())
        phases = all_harmless(reader.phases())
        boundaries = {trial.start_ns for trial in trials}
        boundaries |= {trial.end_ns for trial in trials if trial.end_ns is not None}
        events = all_harmless(reader.events())
        self._history = _History(
            session_facts(reader.path, reader.meta()),
            trials,
            phases,
            (*events, *read_notes(reader.path)),
            reader.commands(),
            tuple(sorted(boundaries)),
            lanes_of(events),
        )
        self._history_pending = False
        self._history_read_s = time.monotonic()
        self._history_cost_s = time.thread_time() - before_s
        self._generation += 1

    def _trials_at(self, at_ns: int) -> tuple[Trial, ...]:
        if at_ns >= self._end_ns:
            return self._history.trials
        key = (self._generation, bisect_right(self._history.boundaries_ns, at_ns))
        if key != self._trials_key:
            self._trials = all_harmless(self._reader.trials(at_ns))
            self._trials_key = key
        return self._trials

    def _window(self, window_ns: int | None, at_ns: int, trial: Trial | None) -> tuple[int, int]:
        if window_ns == 0:
            return 0, max(at_ns, MIN_WINDOW_NS)
        if window_ns is None and trial is not None:
            ended = next((known.end_ns for known in self._history.trials if known.number == trial.number), None)
            return trial.start_ns, max(ended or at_ns, trial.start_ns + MIN_WINDOW_NS)
        wanted_ns = max(window_ns or DEFAULT_WINDOW_NS, MIN_WINDOW_NS)
        # A young session fills its plots; in steps, because a scale that changes all the time cannot be read.
        young_ns = next((step_ns for step_ns in _YOUNG_NS if at_ns <= step_ns), wanted_ns)
        return at_ns - min(wanted_ns, young_ns), at_ns

    def _sources(self, start_ns: int, at_ns: int) -> dict[str, list[Track]]:
        tracks: dict[str, list[Track]] = {"gpu": [], "engine": [], "load": []}
        for source in self._reader.sources():
            cache = self._tracks.get(source.id)
            if cache is None or cache.source != source:
                cache = self._tracks[source.id] = TrackCache(self._reader, source)
            tracks.setdefault(source.kind, []).append(cache.track(min(start_ns, at_ns), at_ns))
        return tracks

    def _under_way(self, running: Trial | None, at_ns: int) -> tuple[Phase | None, LevelRecord | None]:
        if running is None:
            return None, None
        phases = all_harmless(self._reader.phases(running.number, at_ns))
        phase = next((phase for phase in reversed(phases) if phase.end_ns is None), None)
        if phase is None or phase.level is None:
            return phase, None
        levels = self._levels(running, at_ns)
        return phase, next((level for level in levels if level.id == phase.level), None)

    def _logs(self, at_ns: int) -> tuple[LogLine, ...]:
        return all_harmless(self._reader.logs(at_ns, limit=LOG_LINES))

    def _levels(self, trial: Trial, at_ns: int) -> tuple[LevelRecord, ...]:
        return all_harmless(self._reader.levels(trial.number, at_ns))


def _selected(trials: tuple[Trial, ...], number: int | None, running: Trial | None) -> Trial | None:
    if number is None:
        return running or (trials[-1] if trials else None)
    return next((trial for trial in trials if trial.number == number), None)
