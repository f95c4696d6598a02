"""What the screen knows at one moment: frozen values, built off the event loop from the session file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sessions.clock import NS_PER_S
from sessions.summary import best_of, may_be_best
from tui.search_facts import SearchFacts

if TYPE_CHECKING:
    from pathlib import Path

    from sessions.records import Command, Event, LevelRecord, LogLine, Params, Phase, Trial, WorkerStatus
    from tui.clock import ViewClock
    from tui.track import Track

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
        spent_s: What had been used of it when the worker told last, or None.
        verdict: Whether the winner was proven against the baseline, in words.
        winner: Number of the trial that the proof found to be the best, or None.
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
    spent_s: float | None = None
    verdict: str = ""
    winner: int | None = None
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


def best_trial(trials: tuple[Trial, ...], objective: ObjectiveFact, winner: int | None = None) -> Trial | None:
    """The best trial, as every view of a session has it.

    Args:
        trials: Trials as they stood at some moment.
        objective: What counts.
        winner: Number of the trial that a proof had found to be the best by then, or None.
    """
    return best_of(trials, maximize=objective.maximize, winner=winner)


def improvements(trials: tuple[Trial, ...], objective: ObjectiveFact) -> list[Trial]:
    """The trials that were the best when they ended, in the order in which they ended."""
    ended = sorted((trial for trial in trials if trial.end_ns is not None), key=lambda trial: trial.end_ns or 0)
    found: list[Trial] = []
    for trial in ended:
        before = found[-1].score if found else None
        if may_be_best(trial) and trial.score is not None and (before is None or objective.better(trial.score, before)):
            found.append(trial)
    return found


def baseline_trial(trials: tuple[Trial, ...]) -> Trial | None:
    """The first baseline with a score."""
    return next((trial for trial in trials if trial.kind == "baseline" and trial.score is not None), None)


def changed_params(params: Params, baseline: Params) -> Params:
    """The part of a configuration that differs from the baseline."""
    return {name: value for name, value in params.items() if name not in baseline or baseline[name] != value}
