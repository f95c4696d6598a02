"""What the screen knows at one moment: frozen values, built off the event loop from the session file."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

from tui.search_facts import SearchFacts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sessions.records import Command, Event, LevelRecord, LogLine, Params, Phase, Sample, Trial, WorkerStatus
    from tui.clock import ViewClock

NAN = math.nan
NS_PER_S = 1_000_000_000
STALE_NS = 5 * NS_PER_S
"""A sample older than this is not shown as the present."""

Tone = Literal["ok", "warn", "bad", "dim", "accent", ""]
"""What a colour says."""


@dataclass(frozen=True, slots=True)
class SloFact:
    """A limit that a result must meet."""

    metric: str
    stat: str
    op: str
    value: float
    label: str


@dataclass(frozen=True, slots=True)
class ObjectiveFact:
    """What the session maximises or minimises."""

    label: str = ""
    metric: str = ""
    stat: str = ""
    maximize: bool = True
    unit: str = ""
    slos: tuple[SloFact, ...] = ()

    def gain_ratio(self, score: float | None, baseline: float | None) -> float | None:
        """Improvement over the baseline as a share of it; None where one of them has no score."""
        if score is None or baseline is None or baseline == 0:
            return None
        change = (score - baseline) / abs(baseline)
        return change if self.maximize else -change

    def better(self, score: float, than: float) -> bool:
        """Whether a score beats another."""
        return score > than if self.maximize else score < than


@dataclass(frozen=True, slots=True)
class KnobFact:
    """A setting of the search and its domain."""

    name: str
    kind: str
    low: float | None
    high: float | None
    choices: tuple[Any, ...]
    default: Any
    log: bool = False
    step: float | None = None
    help: str = ""


@dataclass(frozen=True, slots=True)
class ShapeFact:
    """What the model weighs: parameters a token multiplies with, bytes of all weights, bytes a token takes in the KV cache."""

    active_parameters: float
    weight_bytes: float
    kv_bytes_per_token: float


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a session says about itself; empty where a file does not say.

    Attributes:
        path: The file.
        kind: `tune`, `watch` or `bench`.
        name: Its name.
        engine: Title of the server family.
        model: Model served.
        url: Address of the server.
        simulated: Whether the server and its GPUs are pretended.
        workload: What is asked of the server, in words.
        objective: What is searched for.
        knobs: What may be changed.
        budget_trials: Most trials, or None.
        budget_s: Longest duration, or None.
        verdict: Whether the winner was proven against the baseline, in words.
        gpu_note: Why there is no GPU to show.
        version: Version of the trtune that wrote it.
        search: What the worker tells about its search.
        profile: State of a profile of the server that is being taken, or empty.
        shape: What the model weighs, or None.
        origin_utc_ns: UTC of session time 0, or 0.
    """

    path: Path
    kind: str = ""
    name: str = ""
    engine: str = ""
    model: str = ""
    url: str = ""
    simulated: bool = False
    workload: str = ""
    objective: ObjectiveFact = field(default_factory=ObjectiveFact)
    knobs: tuple[KnobFact, ...] = ()
    budget_trials: int | None = None
    budget_s: float | None = None
    verdict: str = ""
    gpu_note: str = ""
    version: str = ""
    search: SearchFacts = field(default_factory=SearchFacts)
    profile: str = ""
    shape: ShapeFact | None = None
    origin_utc_ns: int = 0

    @property
    def watching(self) -> bool:
        """Whether the session only looks at a server, and sends it no load."""
        return self.kind == "watch"


class ColumnView(Sequence[float]):
    """The values of one column of samples, taken out only where they are looked at."""

    __slots__ = ("_place", "_samples", "_scale")

    def __init__(self, samples: Sequence[Sample], place: int, scale: float = 1.0) -> None:
        self._samples = samples
        self._place = place
        self._scale = scale

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, place: int) -> float: ...

    @overload
    def __getitem__(self, place: slice) -> list[float]: ...

    def __getitem__(self, place: int | slice) -> float | list[float]:
        if isinstance(place, slice):
            column, scale = self._place, self._scale
            return [sample.values[column] * scale for sample in self._samples[place]]
        return self._samples[place].values[self._place] * self._scale


class SumView(Sequence[float]):
    """The sums of several columns sampled together, made only where they are looked at; as long as the shortest."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Sequence[Sequence[float]]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return min((len(column) for column in self._columns), default=0)

    @overload
    def __getitem__(self, place: int) -> float: ...

    @overload
    def __getitem__(self, place: slice) -> list[float]: ...

    def __getitem__(self, place: int | slice) -> float | list[float]:
        if isinstance(place, slice):
            wanted = slice(*place.indices(len(self)))
            return [sum(values) for values in zip(*(column[wanted] for column in self._columns), strict=True)]
        return sum(column[range(len(self))[place]] for column in self._columns)


@dataclass(frozen=True, slots=True)
class Track:
    """The samples of one source inside the window.

    Attributes:
        name: Such as `gpu0`.
        info: What does not change.
        columns: Place of each column in a sample.
        samples: Samples of the window, oldest first.
        times_ns: Their times.
        newest: The last sample up to the moment looked at, or None.
        at_ns: The moment looked at.
        since_ns: Samples from before do not stand for the present: another server was sampled then.
    """

    name: str
    info: Mapping[str, Any]
    columns: Mapping[str, int]
    samples: tuple[Sample, ...]
    times_ns: tuple[int, ...]
    newest: Sample | None
    at_ns: int
    since_ns: int = 0

    @property
    def lane(self) -> str:
        """Lane of the trial that is sampled, or empty."""
        return self.name.rpartition("/")[0]

    @property
    def place(self) -> str:
        """Number of a GPU, after that of its lane where it has one: `0`, `1/0`."""
        return self.name.replace("gpu", "").removeprefix("lane")

    @property
    def age_ns(self) -> int:
        """How old the newest sample is."""
        return self.at_ns - self.newest.t_ns if self.newest is not None else 1 << 62

    @property
    def stale(self) -> bool:
        """Whether the newest sample is too old to stand for the present."""
        return self.age_ns > STALE_NS or (self.newest is not None and self.newest.t_ns < self.since_ns)

    def value(self, column: str) -> float:
        """The newest number of a column; NaN when there is none, or it is too old."""
        place = self.columns.get(column)
        if place is None or self.newest is None or self.stale:
            return NAN
        return self.newest.values[place]

    def series(self, column: str, scale: float = 1.0) -> tuple[Sequence[int], Sequence[float]]:
        """Times and values of a column over the window; empty when the source has no such column."""
        place = self.columns.get(column)
        return ((), ()) if place is None else (self.times_ns, ColumnView(self.samples, place, scale))

    def rates(self, column: str, span_ns: int = 2 * NS_PER_S) -> tuple[list[int], list[float]]:
        """Growth per second of a counter over the window, each over at least `span_ns`; a fall is a restart: NaN."""
        times_ns: list[int] = []
        rates: list[float] = []
        start: tuple[int, float] | None = None
        for t_ns, value in zip(*self.series(column), strict=True):
            if value != value:
                continue
            if start is None or value < start[1]:
                rate = NAN
            elif t_ns - start[0] >= span_ns:
                rate = (value - start[1]) / ((t_ns - start[0]) / NS_PER_S)
            else:
                continue
            start = (t_ns, value)
            times_ns.append(t_ns)
            rates.append(rate)
        return times_ns, rates

    def recent(self, column: str, span_ns: int) -> list[float]:
        """Known values of a column over the last `span_ns` up to the moment looked at."""
        place = self.columns.get(column)
        if place is None:
            return []
        first = bisect_right(self.times_ns, self.at_ns - span_ns)
        values = [sample.values[place] for sample in self.samples[first:]]
        return [value for value in values if value == value]

    def mean(self, column: str, span_ns: int) -> float:
        """Mean of a column over the last `span_ns` up to the moment looked at; NaN when nothing is there."""
        values = self.recent(column, span_ns)
        return sum(values) / len(values) if values else NAN


@dataclass(frozen=True, slots=True)
class SessionState:
    """Whether the numbers are of now, in a word and a line.

    Attributes:
        word: `LIVE`, `PAUSED`, `LAG 12 s`, `DONE`, ...
        text: What it means and what to do.
        tone: Its colour.
        live: Whether a worker writes, so that commands make sense.
        fresh: Whether the newest numbers are of now.
    """

    word: str
    text: str
    tone: Tone
    live: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the widgets draw.

    Attributes:
        facts: What the session says about itself.
        state: Whether the numbers are of now.
        worker: Who writes, or None.
        clock: The clock that chose the moment.
        at_ns: The moment looked at.
        end_ns: The latest moment recorded.
        window_ns: Start and end of the plots.
        gpus: One track per GPU.
        engine: Track of the server, or None; where trials run side by side, of that of the newest, as is `load`.
        load: Track of the load, or None.
        lane: Lane whose server and load these are, where trials run side by side; may be empty.
        selected_lane: Lane of `selected`.
        side_by_side: Trials under way.
        trials: Trials begun by the moment, as they stood then.
        running: The trial under way at the moment, or None.
        phase: The phase under way, or None.
        level: The level under way, or None.
        baseline: The baseline if it has a score, else None.
        best: The best feasible trial by then, or None.
        selected: The trial whose details are asked for, or None.
        selected_levels: Its levels.
        all_trials: Every trial of the file, as it ended.
        all_phases: Every phase of the file.
        events: Every event of the file.
        commands: Every command of the file.
        logs: The newest log lines up to the moment, oldest first; only when asked for.
    """

    facts: SessionFacts
    state: SessionState
    worker: WorkerStatus | None
    clock: ViewClock
    at_ns: int
    end_ns: int
    window_ns: tuple[int, int]
    gpus: tuple[Track, ...] = ()
    engine: Track | None = None
    load: Track | None = None
    lane: str = ""
    selected_lane: str = ""
    side_by_side: int = 0
    trials: tuple[Trial, ...] = ()
    running: Trial | None = None
    phase: Phase | None = None
    level: LevelRecord | None = None
    baseline: Trial | None = None
    best: Trial | None = None
    selected: Trial | None = None
    selected_levels: tuple[LevelRecord, ...] = ()
    all_trials: tuple[Trial, ...] = ()
    all_phases: tuple[Phase, ...] = ()
    events: tuple[Event, ...] = ()
    commands: tuple[Command, ...] = ()
    logs: tuple[LogLine, ...] = ()

    @classmethod
    def empty(cls, path: Path, clock: ViewClock) -> Snapshot:
        """The snapshot of a session of which nothing could be read."""
        state = SessionState("", "", "", live=False, fresh=False)
        return cls(SessionFacts(path), state, None, clock, 0, 0, (0, NS_PER_S))

    @property
    def fresh(self) -> bool:
        """Whether the numbers are of the moment the screen claims to show; a replay claims no more than its own."""
        return self.state.fresh or not self.clock.pinned

    @property
    def own_gpus(self) -> tuple[Track, ...]:
        """GPUs of the server that is shown; none where trials run side by side and the samples do not tell whose they are."""
        if self.lane and (own := tuple(gpu for gpu in self.gpus if gpu.lane == self.lane)):
            return own
        return self.gpus if self.side_by_side <= 1 else ()

    def gain_ratio(self, trial: Trial) -> float | None:
        """Improvement of a trial over the baseline."""
        return self.facts.objective.gain_ratio(trial.score, self.baseline.score if self.baseline else None)


def best_trial(trials: tuple[Trial, ...], objective: ObjectiveFact) -> Trial | None:
    """The trial with the best score among those that are complete and meet every SLO."""
    best: Trial | None = None
    for trial in trials:
        if trial.score is None or trial.state != "complete" or trial.feasible is False:
            continue
        if best is None or best.score is None or objective.better(trial.score, best.score):
            best = trial
    return best


def improvements(trials: tuple[Trial, ...], objective: ObjectiveFact) -> list[Trial]:
    """The trials that were the best when they ended, in the order in which they ended."""
    ended = sorted((trial for trial in trials if trial.end_ns is not None), key=lambda trial: trial.end_ns or 0)
    found: list[Trial] = []
    for trial in ended:
        if trial.score is None or trial.state != "complete" or trial.feasible is False:
            continue
        before = found[-1].score if found else None
        if before is None or objective.better(trial.score, before):
            found.append(trial)
    return found


def baseline_trial(trials: tuple[Trial, ...]) -> Trial | None:
    """The first baseline with a score."""
    return next((trial for trial in trials if trial.kind == "baseline" and trial.score is not None), None)


def changed_params(params: Params, baseline: Params) -> Params:
    """The part of a configuration that differs from the baseline."""
    return {name: value for name, value in params.items() if name not in baseline or baseline[name] != value}
