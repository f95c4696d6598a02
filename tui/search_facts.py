"""What the worker tells about its search: importances, effects, the front, the queue, diagnoses, quality.

All of it comes from the session's `meta`; whatever a stranger's file says there, the result is harmless values, and what
cannot be understood is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui.harmless import count, number, scalar, table, text, values

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_POINTS = 200
"""Most points of an effect or a front, and most configurations of a queue, that are shown."""

_TRIAL = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Importance:
    """Which share of the variation of the score each knob explains, the largest first.

    Attributes:
        method: How it was found.
        trials: Finished trials it rests on.
        shares: Knob and share, 0..1.
    """

    method: str
    trials: int
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class EffectPoint:
    """The score at one value of a knob, all others averaged out.

    Attributes:
        value: Of the knob.
        score: In units of the objective.
        low: Lower end of its interval; the score where none is told.
        high: Upper end.
        trials: Trials near this value.
    """

    value: Any
    score: float
    low: float
    high: float
    trials: int


@dataclass(frozen=True, slots=True)
class Axis:
    """One objective of a front."""

    metric: str
    stat: str
    maximize: bool

    @property
    def label(self) -> str:
        """Metric and statistic."""
        return self.metric if self.stat in ("", "avg") else f"{self.metric} {self.stat}"


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A measurement that no other beats in every objective."""

    trial: int
    level: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Front:
    """The Pareto front.

    Attributes:
        axes: The objectives.
        points: Measurements on it.
        hypervolume: Its hypervolume, or None.
    """

    axes: tuple[Axis, ...]
    points: tuple[FrontPoint, ...]
    hypervolume: float | None


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A configuration that runs next, and why."""

    params: Mapping[str, Any]
    why: str


@dataclass(frozen=True, slots=True)
class TrialDiagnosis:
    """What limited a trial, with the evidence, and the knob to move (empty: none)."""

    kind: str
    text: str
    evidence: tuple[str, ...]
    knob: str


@dataclass(frozen=True, slots=True)
class Quality:
    """Whether an altered model still answers like the unaltered one."""

    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class SearchFacts:
    """Everything the worker tells about its search; empty where it does not say."""

    importance: Importance | None = None
    effects: Mapping[str, tuple[EffectPoint, ...]] = field(default_factory=dict)
    front: Front | None = None
    queue: tuple[QueueEntry, ...] = ()
    diagnoses: Mapping[int, TrialDiagnosis] = field(default_factory=dict)
    quality: Mapping[int, Quality] = field(default_factory=dict)
    objectives: int = 1


def search_facts(meta: Mapping[str, Any]) -> SearchFacts:
    """The facts of the search from a session's `meta`."""
    return SearchFacts(
        importance=_importance(table(meta.get("importance"))),
        effects={
            text(name): points
            for name, entry in table(meta.get("effects")).items()
            if (points := _effect(table(entry)))
        },
        front=_front(table(meta.get("pareto"))),
        queue=tuple(_queued(table(entry)) for entry in values(meta.get("queue"))[:MAX_POINTS]),
        diagnoses={place: _diagnosis(entry) for place, entry in _by_trial(meta.get("diagnosis"))},
        quality={
            place: Quality(entry.get("passed") is True, text(entry.get("text")))
            for place, entry in _by_trial(meta.get("quality"))
        },
        objectives=max(1, len(values(meta.get("objectives")))),
    )


def _importance(entry: Mapping[str, Any]) -> Importance | None:
    shares = [
        (text(name), share) for name, told in table(entry.get("shares")).items() if (share := number(told)) is not None
    ]
    if not shares:
        return None
    shares.sort(key=lambda share: -share[1])
    return Importance(text(entry.get("method")), count(entry.get("trials")), tuple(shares[:MAX_POINTS]))


def _effect(entry: Mapping[str, Any]) -> tuple[EffectPoint, ...]:
    places, scores = values(entry.get("values")), values(entry.get("score"))
    lows, highs, counts = values(entry.get("low")), values(entry.get("high")), values(entry.get("n"))
    points = []
    for place, (value, told) in enumerate(zip(places[:MAX_POINTS], scores, strict=False)):
        score = number(told)
        if score is None:
            continue
        low, high = number(_at(lows, place)), number(_at(highs, place))
        points.append(
            EffectPoint(
                scalar(value),
                score,
                score if low is None else low,
                score if high is None else high,
                count(_at(counts, place)),
            )
        )
    return tuple(points)


def _front(entry: Mapping[str, Any]) -> Front | None:
    axes = tuple(
        Axis(text(axis.get("metric")), text(axis.get("stat")), axis.get("direction") != "minimize")
        for axis in map(table, values(entry.get("objectives")))
    )
    if len(axes) < 2:
        return None
    points = []
    for point in map(table, values(entry.get("front"))[:MAX_POINTS]):
        told = [number(value) for value in values(point.get("values"))]
        known = tuple(value for value in told if value is not None)
        if len(known) == len(axes):
            points.append(FrontPoint(count(point.get("trial")), count(point.get("level")), known))
    return Front(axes, tuple(points), number(entry.get("hypervolume")))


def _queued(entry: Mapping[str, Any]) -> QueueEntry:
    params = {text(name): scalar(value) for name, value in table(entry.get("params")).items()}
    return QueueEntry(params, text(entry.get("why")))


def _diagnosis(entry: Mapping[str, Any]) -> TrialDiagnosis:
    return TrialDiagnosis(
        text(entry.get("kind")),
        text(entry.get("text")),
        tuple(text(line) for line in values(entry.get("evidence"))[:8]),
        text(entry.get("knob")),
    )


def _by_trial(told: object) -> list[tuple[int, Mapping[str, Any]]]:
    return [(int(name), table(entry)) for name, entry in table(told).items() if _TRIAL.fullmatch(name)]


def _at(told: list[Any], place: int) -> Any:
    return told[place] if place < len(told) else None
