"""Results of older sessions as hints for a new search: same engine, same model, same GPUs, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sessions.errors import SessionError
from sessions.reader import SessionReader
from sessions.records import PROOF
from tuner.errors import BadPlan
from tuner.rescoring import rescore
from tuner.search.exchange import Known
from tuner.search.known import simulated_hardware

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from tuner.plan import Plan
    from tuner.search.objective import Objective


def known_results(plan: Plan) -> list[Known]:
    """What the older sessions of a plan measured, scored under the plan's objectives from their raw requests.

    Raises:
        BadPlan: If one cannot be read.
    """
    objectives = plan.to_objectives()
    return [each for path in plan.search.warm_start for each in _results(path, objectives, plan.price.gpu_hour)]


def check_older_sessions(plan: Plan, gpus: Collection[str]) -> None:
    """Make sure that older sessions are about the same thing.

    Args:
        plan: The new plan.
        gpus: Product names of this host's GPUs, without repeats; empty when they are not known.

    Raises:
        BadPlan: If one cannot be read, or is about another engine, model or GPU.
    """
    for path in plan.search.warm_start:
        try:
            with SessionReader(path) as reader:
                meta, sources = reader.meta(), reader.sources("gpu")
        except SessionError as error:
            raise BadPlan(f"search.warm_start: {error}") from error
        engine = _table(meta.get("engine"))
        _same(path, "engine", engine.get("name"), plan.engine.name)
        _same(path, "model", engine.get("model"), plan.engine.model)
        theirs = _gpus_of(meta, {str(source.info.get("name", "")) for source in sources})
        ours = _pretended(plan.engine.arguments) or set(gpus)
        if theirs and ours and theirs != ours:
            raise BadPlan(
                f"search.warm_start: {path} was measured on {_listed(theirs)}, and this host has {_listed(ours)}"
            )


def _results(path: Path, objectives: Sequence[Objective], gpu_hour_price: float | None) -> list[Known]:
    try:
        with SessionReader(path) as reader:
            past = rescore(reader, objectives, gpu_hour_price).past
    except SessionError as error:
        raise BadPlan(f"search.warm_start: {error}") from error
    return [
        Known(each.params, each.result, path.name) for each in past if each.result is not None and each.kind != PROOF
    ]


def _same(path: Path, what: str, theirs: object, ours: str) -> None:
    if theirs != ours:
        raise BadPlan(f"search.warm_start: {path} is about the {what} {theirs!s:.60}, and this plan about {ours}")


def _gpus_of(meta: Mapping[str, Any], sampled: set[str]) -> set[str]:
    arguments = _table(_table(meta.get("plan")).get("engine")).get("arguments")
    return _pretended(arguments if isinstance(arguments, list) else ()) or sampled


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _pretended(arguments: Sequence[str]) -> set[str]:
    hardware = simulated_hardware(arguments)
    return set() if hardware is None else {hardware.gpu.product_name}


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
