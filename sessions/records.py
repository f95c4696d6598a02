"""What a session holds, as values: trials, levels, phases, events, log lines, commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Params = dict[str, bool | int | float | str | None]
"""A configuration: knob name to value."""

Metrics = dict[str, dict[str, float]]
"""Results: metric name to statistics (`avg`, `p50`, `p99`, ...); a metric that is one number has only `avg`."""

RUNNING = "running"
FINISHED_STATES = ("complete", "pruned", "infeasible", "failed", "skipped")
"""States of a trial that is over and is not run again."""

PROOF = "proof"
"""Kind of a trial that repeats the baseline or the winner to prove their difference; never the best itself."""

REFERENCE = "reference"
"""Kind of a trial that only recorded the unaltered model's answers, for the quality gate."""

PHASES = ("prepare", "build", "start", "reload", "quality", "warm-up", "measure", "drain", "stop")

COMMAND_KINDS = (
    "pause",
    "resume",
    "skip",
    "stop",
    "enqueue",
    "dequeue",
    "mark",
    "range",
    "objective",
    "prove",
    "profile",
)


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """Why a trial has no result.

    Attributes:
        kind: Short name, such as `out_of_memory`.
        text: One line for a person.
        line: The server's telling log line, or an empty string.
        accuses: Knobs to move, most likely first.
    """

    kind: str
    text: str
    line: str = ""
    accuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration, started and measured.

    Attributes:
        number: Counts from 0; the baseline is usually 0.
        kind: `baseline`, `search`, `enqueued`, `proof`, `reference` or `bench`.
        state: `running`, one of `FINISHED_STATES`, or `interrupted` (its worker died).
        params: What was asked for.
        effective: What was read back from the server.
        launch: Command line and configuration files.
        start_ns: Session time of its start.
        end_ns: Session time of its end, or None.
        ready_s: Seconds from start to ready, or None.
        score: Value of the objective, or None.
        feasible: Whether every SLO was met, or None.
        result: Metrics of the level that gave the score.
        failure: Why there is no result, or None.
    """

    number: int
    kind: str
    state: str
    params: Params
    start_ns: int
    end_ns: int | None = None
    effective: Params = field(default_factory=dict)
    launch: Mapping[str, Any] = field(default_factory=dict)
    ready_s: float | None = None
    score: float | None = None
    feasible: bool | None = None
    result: Metrics = field(default_factory=dict)
    failure: FailureRecord | None = None


@dataclass(frozen=True, slots=True)
class Rescored:
    """What a trial is worth under another objective.

    Attributes:
        trial: Its number.
        score: Value of the objective, or None.
        feasible: Whether every SLO is met, or None.
        result: Metrics of the level that gives the score.
    """

    trial: int
    score: float | None
    feasible: bool | None
    result: Metrics


@dataclass(frozen=True, slots=True)
class LevelRecord:
    """One intensity of load within a trial.

    Attributes:
        id: Identity in the file.
        trial: Number of its trial.
        kind: `concurrency` or `rate`.
        value: Concurrent requests, or requests per second.
        state: `running`, `valid`, `invalid` or `aborted`.
        start_ns: Session time of its start.
        end_ns: Session time of its end, or None.
        window_ns: Start and end of the measuring window, or None.
        result: Its metrics.
        notes: Why it is invalid, what ended it, which clock, what precision.
    """

    id: int
    trial: int
    kind: str
    value: float
    state: str
    start_ns: int
    end_ns: int | None
    window_ns: tuple[int, int] | None
    result: Metrics
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """What a trial was doing in a span of time; `end_ns` is None while it lasts."""

    trial: int
    level: int | None
    name: str
    start_ns: int
    end_ns: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """A mark on the time axis: `best`, `mark`, `command`, `warning`, `drift`."""

    id: int
    t_ns: int
    kind: str
    trial: int | None
    text: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the server's, the worker's or the load's log."""

    id: int
    t_ns: int
    stream: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator asked of the worker."""

    id: int
    utc_ns: int
    kind: str
    args: Mapping[str, Any]
    state: str
    reply: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where samples come from: one GPU, the engine, or the load.

    Attributes:
        id: Identity in the file.
        kind: `gpu`, `engine` or `load`.
        name: Such as `gpu0`.
        columns: Names of the numbers in a sample, in order.
        info: What does not change: product name, UUID, host, units of the source.
    """

    id: int
    kind: str
    name: str
    columns: tuple[str, ...]
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """The numbers of a source at one moment; NaN where the source does not say."""

    t_ns: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """Who writes the session, and when it last said so.

    Attributes:
        pid: Process id on `host`.
        host: Its host.
        state: `starting`, `running`, `paused`, `stopping`, `done` or `failed`.
        text: What it is doing, in words.
        started_ns: Session time of its start.
        heartbeat_ns: Session time of its last sign of life.
        heartbeat_utc_ns: The same in UTC ns.
    """

    pid: int
    host: str
    state: str
    text: str
    started_ns: int
    heartbeat_ns: int
    heartbeat_utc_ns: int

    @property
    def over(self) -> bool:
        """Whether it ended by itself."""
        return self.state in ("done", "failed")
