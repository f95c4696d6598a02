"""Writes down after every trial what the search knows: importances, effects, the front, the queue, diagnoses, the budget.

Screen, report and comparison read these from the session's meta and never compute them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sessions.reader import SessionReader
from sessions.records import PROOF, REFERENCE
from tuner.diagnosing import diagnose_trial
from tuner.search.explanation import METHOD, explain_knobs, ped_anova
from tuner.search.objective import Objective, score_levels
from tuner.search.pareto import front_places, hypervolume, utilities_of
from tuner.search.record import observations_of
from tuner.variants import knobs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from engines.base import Engine
    from engines.knob import Value
    from sessions.recorder import Recorder
    from sessions.records import LevelRecord, Trial
    from tuner.budget import Budget
    from tuner.plan import Plan
    from tuner.search.study import StudySearch

USUAL_FRONT: Final = (
    Objective("output_token_throughput_per_gpu", "avg", "maximize"),
    Objective("output_token_throughput_per_user", "avg", "maximize"),
)
"""The front that is shown with a single objective: what a GPU yields against what a user sees."""

_MEASURED: Final = ("complete", "pruned")


def explain(recorder: Recorder, plan: Plan, engine: Engine, search: StudySearch, budget: Budget) -> None:
    """Write everything that is known now into the session's meta.

    Args:
        recorder: The session.
        plan: The plan in force; the session's trials are scored under it.
        engine: The server's family.
        search: What was measured, and the queue.
        budget: What has been used.
    """
    objectives = plan.to_objectives()
    names = [*search.search.space.knobs, *(knob.name for knob in knobs_of(plan.engine, engine))]
    recorder.flush()
    with SessionReader(recorder.path) as reader:
        facts: dict[str, Any] = {
            "pareto": front_facts(reader.trials(), reader.levels(), objectives),
            **queue_facts(search),
            "budget": budget.facts(),
            "diagnosis": _diagnoses(reader, objectives[0], names, search.search.space.highest()),
        }
    recorder.set_meta({**facts, **_knob_facts(search, objectives[0])})


def queue_facts(search: StudySearch) -> dict[str, Any]:
    """What waits to be run, and why, as the session keeps it."""
    return {"queue": [{"params": each.params, "why": each.why} for each in search.queue()]}


def _knob_facts(search: StudySearch, objective: Objective) -> dict[str, Any]:
    """Importances and effects; nothing while too little is known."""
    observations, space = observations_of(search.search.study), search.search.space
    found = explain_knobs(space, objective, observations)
    if found is None:
        return {"importance": None, "effects": {}}
    importance: dict[str, Any] = {"method": METHOD, "trials": found.trials, "shares": found.importance}
    if (second := ped_anova(space, objective, observations)) is not None:
        importance["ped_anova"] = second
    effects = {
        name: {
            "values": list(effect.values),
            "score": list(effect.score),
            "low": list(effect.low),
            "high": list(effect.high),
            "n": list(effect.trials),
        }
        for name, effect in found.effects.items()
    }
    return {"importance": importance, "effects": effects}


def _diagnoses(
    reader: SessionReader, objective: Objective, knobs: Sequence[str], highest: Mapping[str, Value]
) -> dict[str, Any]:
    """What limited each measured trial; what was found before is kept while the same level decides.

    But what rests on the SLOs: they may have changed.
    """
    known = reader.meta().get("diagnosis") or {}
    found: dict[str, Any] = {}
    for trial in reader.trials():
        level = deciding_level(reader, trial, objective)
        if level is None:
            continue
        key, before = str(trial.number), known.get(str(trial.number))
        if before is not None and before.get("level") == level.id and "slo" not in before:
            found[key] = before
        elif (told := diagnose_trial(reader, trial, level, objective, knobs, highest)) is not None:
            found[key] = {**told, "level": level.id}
    return found


def deciding_level(reader: SessionReader, trial: Trial, objective: Objective) -> LevelRecord | None:
    """The level that gave a trial its score, or None when it has none."""
    if trial.state not in _MEASURED:
        return None
    levels = reader.levels(trial.number)
    place = score_levels(objective, [level.result if level.state == "valid" else None for level in levels]).level
    return None if place is None else levels[place]


@dataclass(frozen=True, slots=True)
class _Point:
    """A measured level with a value of each objective."""

    trial: int
    level: int
    values: tuple[float, ...]


def front_facts(
    trials: Iterable[Trial], levels: Iterable[LevelRecord], objectives: Sequence[Objective]
) -> dict[str, Any]:
    """The Pareto front of everything measured, as the session keeps it.

    With several objectives only levels within the SLOs are on it. With a single one it is that of throughput per GPU against
    throughput per user, over all levels. The hypervolume is measured from 0, for what is minimised from the worst value
    measured.

    Args:
        trials: Trials of the session.
        levels: Their levels.
        objectives: The session's objectives.
    """
    axes = tuple(objectives) if len(objectives) > 1 else USUAL_FRONT
    counted = {trial.number for trial in trials if trial.state in _MEASURED and trial.kind not in (PROOF, REFERENCE)}
    points = [point for level in levels if level.trial in counted and (point := _point(level, axes)) is not None]
    directions = [{"metric": each.metric, "stat": each.stat, "direction": each.direction} for each in axes]
    facts: dict[str, Any] = {"objectives": directions, "front": [], "hypervolume": 0.0}
    if not points:
        return facts
    maximise = [each.direction == "maximize" for each in axes]
    values = [point.values for point in points]
    front = [points[place] for place in front_places(utilities_of(values, maximise))]
    signed = np.array(values) * np.where(maximise, 1.0, -1.0)
    corner = np.where(maximise, np.minimum(signed.min(axis=0), 0.0), signed.min(axis=0))
    facts["front"] = [{"trial": each.trial, "level": each.level, "values": list(each.values)} for each in front]
    facts["hypervolume"] = hypervolume(signed, corner)
    return facts


def _point(level: LevelRecord, axes: Sequence[Objective]) -> _Point | None:
    if level.state != "valid" or any(each.violation(level.result) > 0 for each in axes):
        return None
    values = [each.value(level.result) for each in axes]
    known = tuple(value for value in values if value is not None)
    return _Point(level.trial, level.id, known) if len(known) == len(axes) else None
