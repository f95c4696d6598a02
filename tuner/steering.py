"""What an operator may change of a search under way, as another plan: ranges, fixed knobs, objective, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tuner.errors import BadPlan
from tuner.plan import KnobRange
from tuner.search.space import own_domain
from tuner.searching import space_of
from tuner.variants import knobs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.base import Engine
    from tuner.plan import KnobValue, Plan

_GOAL_FIELDS = ("metric", "stat", "direction")


def with_range(plan: Plan, engine: Engine, args: Mapping[str, Any]) -> Plan:
    """The plan with another domain for one knob.

    Args:
        plan: The plan in force.
        engine: The server's family.
        args: `knob`, and `domain`: a table of `low`, `high`, `log`, `step`; a list of choices; or one value to hold it at.

    Raises:
        BadPlan: If there is no such knob, the domain is not one for it, or nothing would be left to search.
    """
    name = args.get("knob")
    if not isinstance(name, str) or "domain" not in args:
        raise BadPlan("write which knob, and its domain: a range, a list of choices, or one value")
    tables = plan.model_dump(mode="json")
    wanted = tables["knobs"] or {knob.name: own_domain(knob) for knob in knobs_of(plan.engine, engine) if knob.searched}
    changed = _validated(plan, {**tables, "knobs": {**wanted, name: args["domain"]}})
    space_of(changed, engine)
    return changed


def domain_words(domain: KnobRange | tuple[KnobValue, ...] | KnobValue) -> str:
    """A knob's domain in words."""
    if isinstance(domain, KnobRange):
        return f"{domain.low:g} to {domain.high:g}"
    return ", ".join(map(str, domain)) if isinstance(domain, tuple) else f"held at {domain}"


def with_objective(plan: Plan, args: Mapping[str, Any]) -> Plan:
    """The plan with another objective, other limits, or both.

    Args:
        plan: The plan in force.
        args: `preset`; or any of `metric`, `stat`, `direction` and `slos` (texts, or tables as the session keeps them); or
            `objectives`, a list of tables of `metric`, `stat`, `direction`. What is not named stays as it is, except that a new
            metric takes its own usual statistic and direction.

    Raises:
        BadPlan: If that is no objective.
    """
    unknown = set(args) - {*_GOAL_FIELDS, "slos", "preset", "objectives"}
    if unknown or not args:
        raise BadPlan(
            f"an objective has metric, stat, direction and slos, or a preset; not {', '.join(unknown) or 'nothing'}"
        )
    tables = plan.model_dump(mode="json")
    own: dict[str, Any] = {key: args[key] for key in (*_GOAL_FIELDS, "preset") if args.get(key) is not None}
    if "slos" in args:
        slos = args["slos"] or ()
        if not isinstance(slos, list | tuple):
            raise BadPlan(f"slos = {slos!r:.60}: a list of limits is needed, such as ['ttft:p99:<=:500']")
        own["slos"] = [_slo_text(each) for each in slos]
    elif "preset" not in own:
        own["slos"] = tables["objective"]["slos"]
    if "preset" not in own and "metric" not in own:
        own = {**{key: tables["objective"][key] for key in _GOAL_FIELDS}, **own}
    several = args.get("objectives", () if {"preset", *_GOAL_FIELDS} & set(args) else tables["objectives"])
    return _validated(plan, {**tables, "objective": own, "objectives": several or ()})


def _slo_text(told: object) -> str:
    if isinstance(told, dict):
        return ":".join(str(told.get(part, "")) for part in ("metric", "stat", "op", "value"))
    return str(told)


def _validated(plan: Plan, tables: Mapping[str, Any]) -> Plan:
    try:
        return type(plan).model_validate(tables)
    except ValidationError as error:
        told = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in told["loc"][:2])
        text = told["msg"].removeprefix("Value error, ")
        raise BadPlan(f"{place}: {text}" if place else text) from error
