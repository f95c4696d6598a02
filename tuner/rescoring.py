"""What finished trials are worth under an objective: worked out from the raw requests, so that nothing has to run again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sessions.metrics import summarise
from sessions.reader import SessionReader
from sessions.records import FINISHED_STATES, PROOF, REFERENCE, Rescored
from sessions.resources import Resources, energy_in, with_resources
from tuner.facts import objectives_facts
from tuner.search.exchange import Result
from tuner.search.objective import score_levels
from tuner.search.study import Past

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessions.recorder import Recorder
    from sessions.records import LevelRecord, Metrics, Trial
    from tuner.plan import Plan
    from tuner.search.objective import Objective

QUALITY: Final = "quality"
"""Kind of the failure of a trial that the quality gate refused."""

SCORED_FOR: Final = "scored_for"
"""Key in the session's meta: what its trials were scored for. Another purpose than the plan's means that a kill came between."""

_NOT_SEARCHED: Final = (PROOF, REFERENCE, "bench")
_MEASURED: Final = ("complete", "pruned")


@dataclass(frozen=True, slots=True)
class Rescoring:
    """All trials under another objective.

    Attributes:
        scores: New scores of the measured trials.
        levels: New metrics of the levels by id.
        past: The searched trials as the search wants them.
    """

    scores: tuple[Rescored, ...]
    levels: Mapping[int, Metrics]
    past: tuple[Past, ...]


def rescore(reader: SessionReader, objectives: Sequence[Objective], gpu_hour_price: float | None = None) -> Rescoring:
    """Work out anew what every finished trial of a session is worth.

    Args:
        reader: The session; its raw requests and GPU samples are read.
        objectives: What counts as better; the first one gives the scores. All have the same SLOs.
        gpu_hour_price: Price of one GPU for an hour, or None.

    Raises:
        DamagedData: If stored requests cannot be read.
    """
    scores: list[Rescored] = []
    results: dict[int, Metrics] = {}
    past: list[Past] = []
    verdicts = reader.meta().get("quality") or {}
    for trial in reader.trials():
        if trial.state not in FINISHED_STATES:
            continue
        levels = reader.levels(trial.number)
        told = {level.id: remeasure(reader, level, objectives[0], gpu_hour_price) for level in levels}
        results |= told
        measured = [told[level.id] if level.state == "valid" else None for level in levels]
        if trial.state in _MEASURED:
            score = score_levels(objectives[0], measured)
            feasible = score.feasible if score.value is not None else None
            scores.append(Rescored(trial.number, score.value, feasible, score.result))
        if trial.kind not in _NOT_SEARCHED:
            past.append(past_trial(trial, measured, objectives, verdicts))
    return Rescoring(tuple(scores), results, tuple(past))


def adopt_plan(recorder: Recorder, before: Plan, plan: Plan, knobs: Sequence[Mapping[str, Any]]) -> None:
    """Put another plan in force, in one step that says that the trials are still scored for the one before.

    A worker that is killed before it has scored them anew leaves a session of which a resume knows what is left to do.
    """
    facts = {"plan": plan.model_dump(mode="json"), "knobs": list(knobs), SCORED_FOR: purpose_of(before)}
    recorder.set_meta(facts)


def rescore_session(recorder: Recorder, plan: Plan) -> None:
    """Score every trial of a session under the objectives of a plan, and say so in the session; what was proven before is void.

    Args:
        recorder: The session.
        plan: The plan in force from now on.
    """
    objectives = plan.to_objectives()
    recorder.flush()
    with SessionReader(recorder.path) as reader:
        found = rescore(reader, objectives, plan.price.gpu_hour)
    facts = {**objectives_facts(objectives), SCORED_FOR: purpose_of(plan), "verdict": None, "proof": None}
    recorder.rescore(found.scores, found.levels, facts)


def purpose_of(plan: Plan) -> str:
    """What a study is for: other ranges or objectives need another one."""
    told = plan.model_dump(mode="json", include={"knobs", "baseline", "objective", "objectives"})
    return json.dumps(told, sort_keys=True)


def remeasure(reader: SessionReader, level: LevelRecord, objective: Objective, gpu_hour_price: float | None) -> Metrics:
    """A level's metrics from its raw requests; as they were stored where there are none."""
    if level.window_ns is None:
        return level.result
    table = reader.requests(level.id)
    if not len(table):
        return level.result
    start_ns, end_ns = level.window_ns
    gpus = int(level.result.get("gpus", {}).get("avg", 0)) or 1
    energy_j = energy_in(reader, start_ns, end_ns, gpus, level.trial)
    used = Resources(gpus, energy_j, (end_ns - start_ns) / 1e9, gpu_hour_price)
    return with_resources(summarise(table, start_ns, end_ns, objective.slos), used)


def past_trials(reader: SessionReader, objectives: Sequence[Objective]) -> list[Past]:
    """The searched trials of a session that are over, as they were scored."""
    verdicts = reader.meta().get("quality") or {}
    by_trial: dict[int, list[Metrics | None]] = {}
    for level in reader.levels():
        by_trial.setdefault(level.trial, []).append(level.result if level.state == "valid" else None)
    return [
        past_trial(trial, by_trial.get(trial.number, []), objectives, verdicts)
        for trial in reader.trials()
        if trial.state in FINISHED_STATES and trial.kind not in _NOT_SEARCHED
    ]


def past_trial(
    trial: Trial,
    levels: Sequence[Metrics | None],
    objectives: Sequence[Objective],
    verdicts: Mapping[str, Any],
) -> Past:
    """One finished trial as the search wants it.

    Args:
        trial: The trial.
        levels: Metrics of its levels; None for an invalid one.
        objectives: What counts as better.
        verdicts: Of the quality gate, by the trial's number as text.
    """
    told = verdicts.get(str(trial.number))
    return Past(
        trial.number, trial.kind, trial.params, _result(trial, levels, objectives, told and bool(told["passed"]))
    )


def result_of(objectives: Sequence[Objective], levels: Sequence[Metrics | None], passed: bool | None = None) -> Result:
    """The result of a trial's levels as the search wants it."""
    return Result.of_levels(objectives if len(objectives) > 1 else objectives[0], levels, passed)


def _result(
    trial: Trial, levels: Sequence[Metrics | None], objectives: Sequence[Objective], passed: bool | None
) -> Result | None:
    if trial.state in _MEASURED:
        result = result_of(objectives, levels, passed)
        return result if result.value is not None else None
    failure = trial.failure
    if trial.state != "infeasible" or failure is None:
        return None
    gate = False if failure.kind == QUALITY else None
    return Result(None, 1.0, gate, failure.text, failure.accuses, infeasible=True)
