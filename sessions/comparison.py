"""Trials beside each other, as values: what `sessions.compare` finds, and what screen, command line and report show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sessions.bootstrap import METHOD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sessions.bootstrap import Window
    from sessions.records import LevelRecord, Trial

SCORED = "scored"
"""Stands for «the load that gave each side its score», which may differ from side to side."""

DEFAULT = "(default)"
"""Shown for a setting that a side left to the server."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same on every side: its name, and its value on each (None: not told)."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of one side.

    Attributes:
        value: As the session has it.
        low: Lower end of its interval, or None.
        high: Upper end.
        count: Values it rests on; 0 when that is not known.
    """

    value: float
    low: float | None = None
    high: float | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """How a side's metric differs from the first side's.

    Attributes:
        absolute: Difference in the metric's unit.
        relative: Difference as a share of the first side's value; None when that is 0.
        low: Lower end of the interval of `relative` (of `absolute` when there is no relative one), or None.
        high: Upper end.
        significant: Whether the interval excludes no difference; None without an interval.
        better: Whether it is a change for the better; None where neither way is, or when nothing changed.
    """

    absolute: float
    relative: float | None
    low: float | None = None
    high: float | None = None
    significant: bool | None = None
    better: bool | None = None


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric on all sides; the first change is always None."""

    metric: str
    stat: str
    unit: str
    estimates: tuple[Estimate | None, ...]
    changes: tuple[Change | None, ...]

    @property
    def label(self) -> str:
        """Metric and statistic."""
        return self.metric if self.stat == "avg" else f"{self.metric} {self.stat}"


@dataclass(frozen=True, slots=True)
class Distribution:
    """The same metric on all sides as histograms over the same bins.

    Attributes:
        metric: Its name.
        unit: Its unit.
        edges: Ends of the bins, one more than bins.
        shares: For each side the share of its values in each bin; empty where it has none.
    """

    metric: str
    unit: str
    edges: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class LoadComparison:
    """All metrics at one load.

    Attributes:
        kind: `concurrency`, `rate`, or SCORED.
        values: The load of each side; all the same unless `kind` is SCORED.
        metrics: In the order of COMPARED, without those that nobody measured.
        distributions: In the order of DISTRIBUTIONS.
    """

    kind: str
    values: tuple[float, ...]
    metrics: tuple[MetricComparison, ...]
    distributions: tuple[Distribution, ...]

    @property
    def label(self) -> str:
        """The load in words."""
        if self.kind != SCORED:
            return f"{self.kind} {self.values[0]:g}"
        told = " / ".join(f"{value:g}" for value in self.values)
        return f"the load that gave each its score ({told})"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the trials compared.

    Attributes:
        name: File and trial, as shown.
        path: The session's path.
        trial: The trial.
        simulated: Whether its numbers are pretended.
        conditions: What it was measured with and on, by name.
        levels: Its valid levels, each with its window.
        unit: Unit of its score.
        objective: Its objective in words.
    """

    name: str
    path: str
    trial: Trial
    simulated: bool
    conditions: Mapping[str, Any]
    levels: tuple[tuple[LevelRecord, Window], ...]
    unit: str = ""
    objective: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything about two or more trials beside each other.

    Attributes:
        sides: The trials; the first is what the others are compared with.
        params: Settings that differ; `(default)` where a side left one to the server.
        conditions: What else differs: versions, GPUs, driver, host, workload...
        loads: Results by load, those of the score first.
        method: How the intervals were made.
        notes: What one must know to read it.
    """

    sides: tuple[Side, ...]
    params: tuple[Difference, ...]
    conditions: tuple[Difference, ...]
    loads: tuple[LoadComparison, ...]
    method: str = METHOD
    notes: tuple[str, ...] = ()

    def metric(self, name: str, stat: str) -> Iterator[tuple[LoadComparison, MetricComparison]]:
        """The comparisons of one metric at every load."""
        for load in self.loads:
            for row in load.metrics:
                if row.metric == name and row.stat == stat:
                    yield load, row
