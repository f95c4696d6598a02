"""What a report tells, gathered from a session once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sessions.clock import NS_PER_S
from sessions.compare import compare, take_side
from sessions.conditions import conditions_of
from sessions.errors import SessionError
from sessions.json_values import mapping
from sessions.metrics import METRICS
from sessions.records import PROOF, Sample
from sessions.rollup import WIDTHS_S
from sessions.rows import word
from sessions.summary import summarise_session
from sessions.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessions.comparison import Comparison
    from sessions.reader import SessionReader
    from sessions.records import Command, Event, LevelRecord, Source, Trial
    from sessions.summary import Summary

TIMELINE_POINTS = 240
TOLD_EVENTS = ("best", "verdict", "command", "mark", "warning", "drift")
MOST_EVENTS = 200


@dataclass(frozen=True, slots=True)
class Timeline:
    """Samples of a source, averaged to a few hundred points.

    Attributes:
        name: Of the source.
        info: Its facts.
        times_s: Session time.
        columns: Values by name; NaN where the source did not say.
    """

    name: str
    info: Mapping[str, Any]
    times_s: tuple[float, ...]
    columns: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Facts:
    """A session as a report tells it.

    Attributes:
        name: The file's name.
        meta: Facts by key: those of the session, and what the front door computed for an older one.
        origin_utc_ns: UTC time of session time 0.
        duration_s: Length of the session.
        ended: Why it ended, in words; empty while it runs.
        running: Whether its worker has not said that it is over.
        trials: All of them.
        levels: All of them.
        summary: Baseline, best, gain.
        comparison: Baseline and best beside each other; None when there are not both.
        gpus: Of each GPU.
        engine: Of the server; None when it told nothing.
        conditions: Versions, GPUs, host...
        events: Marks that a person wants to know.
        commands: What operators asked.
        exports: Winning configuration by form: heading to text.
        missing: What could not be told, and why, a line each.
    """

    name: str
    meta: Mapping[str, Any]
    origin_utc_ns: int
    duration_s: float
    ended: str
    running: bool
    trials: tuple[Trial, ...]
    levels: tuple[LevelRecord, ...]
    summary: Summary
    comparison: Comparison | None
    gpus: tuple[Timeline, ...]
    engine: Timeline | None
    conditions: Mapping[str, Any]
    events: tuple[Event, ...]
    commands: tuple[Command, ...]
    exports: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether its numbers are pretended."""
        return bool(mapping(self.meta.get("engine")).get("simulated"))

    @property
    def objective(self) -> Mapping[str, Any]:
        """What counted as better."""
        return mapping(self.meta.get("objective"))

    @property
    def metric(self) -> str:
        """The objective's metric."""
        return word(self.objective.get("metric", "score"))

    @property
    def unit(self) -> str:
        """Its unit."""
        known = METRICS.get(self.metric)
        return word(self.objective.get("unit") or (known.unit if known else ""))

    @property
    def maximize(self) -> bool:
        """Whether more of it is better."""
        return self.objective.get("direction") != "minimize"

    @property
    def verdict(self) -> Mapping[str, Any]:
        """What the proof found; empty when none was run."""
        return mapping(self.meta.get("verdict"))

    @property
    def search_trials(self) -> tuple[Trial, ...]:
        """The trials but for those that only repeat others."""
        return tuple(trial for trial in self.trials if trial.kind != PROOF)

    def levels_of(self, trial: Trial | None) -> list[LevelRecord]:
        """Valid levels of a trial, by load."""
        found = [level for level in self.levels if trial is not None and level.trial == trial.number]
        return sorted((level for level in found if level.state == "valid"), key=lambda level: level.value)


def gather(
    reader: SessionReader,
    *,
    computed: Mapping[str, Any] | None = None,
    exports: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
) -> Facts:
    """Read what a report tells.

    Args:
        reader: The session.
        computed: Values of `meta` that an older session lacks, computed by the front door.
        exports: The winning configuration by form.
        missing: What the front door could not tell.
    """
    meta = {**(computed or {}), **reader.meta()}
    trials = reader.trials()
    summary = summarise_session(trials, meta)
    status = reader.worker()
    end_ns = reader.end_ns()
    absent = list(missing)
    return Facts(
        name=clean_line(reader.path.name),
        meta=meta,
        origin_utc_ns=reader.origin_utc_ns(),
        duration_s=end_ns / NS_PER_S,
        ended=status.text if status is not None and status.over else "",
        running=status is not None and not status.over,
        trials=trials,
        levels=reader.levels(),
        summary=summary,
        comparison=_comparison(reader, summary, absent),
        gpus=tuple(_timeline(reader, source, end_ns) for source in reader.sources("gpu")),
        engine=next((_timeline(reader, source, end_ns) for source in reader.sources("engine")), None),
        conditions=conditions_of(reader, meta),
        events=_events(reader, absent),
        commands=reader.commands(),
        exports=exports or {},
        missing=tuple(absent),
    )


def _events(reader: SessionReader, missing: list[str]) -> tuple[Event, ...]:
    """The newest marks that a person wants to know."""
    told = tuple(event for event in reader.events() if event.kind in TOLD_EVENTS)
    if len(told) > MOST_EVENTS:
        missing.append(f"the first {len(told) - MOST_EVENTS} events: only the last {MOST_EVENTS} are told")
    return told[-MOST_EVENTS:]


def _comparison(reader: SessionReader, summary: Summary, missing: list[str]) -> Comparison | None:
    baseline, best = summary.baseline, summary.best
    if baseline is None or best is None or baseline.number == best.number:
        return None
    try:
        sides = [
            take_side(reader, baseline.number, f"baseline (trial {baseline.number})"),
            take_side(reader, best.number, f"winner (trial {best.number})"),
        ]
    except SessionError as error:
        missing.append(f"baseline and winner beside each other: {error}")
        return None
    return compare(sides)


def _timeline(reader: SessionReader, source: Source, end_ns: int) -> Timeline:
    readings = _readings(reader, source, end_ns)
    size = max(math.ceil(len(readings) / TIMELINE_POINTS), 1)
    groups = [readings[start : start + size] for start in range(0, len(readings), size)]
    times = tuple(group[len(group) // 2].t_ns / NS_PER_S for group in groups)
    columns = {name: tuple(_mean(group, place) for group in groups) for place, name in enumerate(source.columns)}
    return Timeline(source.name, source.info, times, columns)


def _readings(reader: SessionReader, source: Source, end_ns: int) -> list[Sample]:
    """Every sample of a short session; of a longer one the means of spans, so that a day takes no longer to tell."""
    fitting = [width_s for width_s in WIDTHS_S if end_ns >= TIMELINE_POINTS * width_s * NS_PER_S]
    if not fitting:
        return reader.samples(source.id, 0, end_ns + 1)
    spans = reader.spans(source.id, 0, end_ns + 1, width_s=fitting[-1])
    return [Sample((span.start_ns + span.end_ns) // 2, span.mean) for span in spans]


def _mean(group: Sequence[Sample], place: int) -> float:
    known = [value for reading in group if math.isfinite(value := reading.values[place])]
    return sum(known) / len(known) if known else math.nan
