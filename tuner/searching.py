"""From a plan to a search: the space, the search kept in the session, and what the session says about both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json

from sessions.reader import SessionReader
from sessions.records import RUNNING
from tuner.rescoring import past_trials, purpose_of
from tuner.search.known import checkpoint_of, simulated_hardware, workload_shape
from tuner.search.search import Search
from tuner.search.space import build_space, check_settings
from tuner.search.study import StudySearch
from tuner.variants import knobs_of, wishes_of
from tuner.warm_start import known_results

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.storages import BaseStorage

    from engines.base import Engine
    from engines.knob import Knob
    from sessions.records import Params
    from tuner.plan import Plan
    from tuner.search.problem import Hardware
    from tuner.search.space import Space


def space_of(plan: Plan, engine: Engine) -> Space:
    """The search space of a plan.

    Raises:
        BadPlan: If the plan and the engine do not fit together.
    """
    knobs = knobs_of(plan.engine, engine)
    for place, point in enumerate(plan.starting_points, 1):
        check_settings(knobs, point, f"starting_points[{place}]")
    return build_space(knobs, wishes_of(plan), plan.baseline)


def hardware_of(plan: Plan) -> Hardware | None:
    """The GPUs that a plan tells: the simulated engine's when its arguments name them; else nothing is assumed."""
    return simulated_hardware(plan.engine.arguments)


def open_search(
    path: Path,
    plan: Plan,
    engine: Engine,
    hardware: Hardware | None = None,
    shared: tuple[BaseStorage, str] | None = None,
) -> StudySearch:
    """The search of a session, begun or gone on with: what earlier workers finished is known to it.

    Args:
        path: The session; its trials are scored under the plan's objectives.
        plan: What is to be tuned.
        engine: The server's family.
        hardware: The GPUs; None: those that the plan tells.
        shared: A database that holds the study instead of the session file, and the study's name in it.

    Raises:
        BadPlan: If the plan and the engine do not fit together.
    """
    objectives = plan.to_objectives()
    advice = _advice(plan, engine, space_of(plan, engine))
    known = known_results(plan)
    search = StudySearch(
        path,
        lambda storage, name: Search(
            knobs_of(plan.engine, engine),
            objectives if len(objectives) > 1 else objectives[0],
            hardware=hardware or hardware_of(plan),
            model=checkpoint_of(plan.engine.model),
            workload=workload_shape(plan),
            wanted=wishes_of(plan),
            baseline=plan.baseline,
            conflicts=engine.conflicts,
            starting_points=plan.starting_points,
            advice=advice,
            known=known,
            sampler=plan.search.sampler,
            seed=plan.search.seed,
            storage=storage,
            study_name=name,
        ),
        purpose_of(plan),
        shared,
    )
    with SessionReader(path) as reader:
        under_way = {trial.number for trial in reader.trials() if trial.state == RUNNING}
        search.recover(past_trials(reader, objectives), under_way)
    return search


def knob_facts(plan: Plan, engine: Engine) -> list[dict[str, Any]]:
    """The searched knobs and those held at one value, as the session keeps them.

    Each entry has `name`, `kind`, `default`, `help`, its domain (`low`, `high`, `log`, `step`, or `choices`), and what the
    engine allows (`allowed`, in the same words). One that is held has `fixed`.
    """
    space = space_of(plan, engine)
    by_name = {knob.name: knob for knob in knobs_of(plan.engine, engine)}
    searched = [
        {
            **_knob_facts(knob, space.baseline.get(name, knob.default)),
            **json.loads(distribution_to_json(space.distributions[name]))["attributes"],
        }
        for name, knob in space.knobs.items()
    ]
    held = [
        {**_knob_facts(by_name[name], value), "choices": [value], "fixed": value} for name, value in space.fixed.items()
    ]
    return searched + held


def _knob_facts(knob: Knob, default: object) -> dict[str, Any]:
    allowed: dict[str, Any] = {"choices": list(knob.choices)} if knob.choices else {"low": knob.low, "high": knob.high}
    if knob.kind == "bool":
        allowed = {"choices": [False, True]}
    kind = "choice" if knob.kind in ("text", "list") else knob.kind
    return {"name": knob.name, "kind": kind, "default": default, "help": knob.help, "allowed": allowed}


def _advice(plan: Plan, engine: Engine, space: Space) -> list[Params]:
    """The engine's advice with the most GPUs the plan allows, then with the baseline's."""
    advice = engine.starting_points(plan.load_hint())
    largest = space.largest()
    return [{**point, **largest} for point in advice] + ([dict(advice[0])] if advice and largest else [])
