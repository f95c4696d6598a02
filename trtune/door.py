"""What the program lends the screen: finding servers, writing plans, starting work, exporting. Each part loads when used."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from tui.front_door import Findings, FrontDoor, Wish
from tuner.presets import PRESETS

if TYPE_CHECKING:
    from pathlib import Path

DEMO = "demo"


def make_door() -> FrontDoor:
    """Everything the screen may ask of the program."""
    presets = [(name, goal.help) for name, goal in PRESETS.items()]
    return FrontDoor(presets, _export_forms, _export, _find, _draft, _begin)


def plan_tables(wish: Wish) -> dict[str, Any]:
    """The tables of the plan that a wish stands for; values that are no numbers are left for the plan to refuse."""
    if wish.engine == DEMO:
        from trtune.plans import demo_tables

        return demo_tables()
    engine: dict[str, Any] = {"name": wish.engine, "model": wish.model}
    if wish.url:
        engine |= {"launch": "attach", "url": wish.url}
    name = wish.model.rstrip("/").rsplit("/", 1)[-1] or wish.engine
    tables: dict[str, Any] = {"name": f"{wish.work}-{name}", "kind": wish.work, "engine": engine}
    if wish.work == "watch":
        return tables
    tables["workload"] = {"isl": _number(wish.isl), "osl": _number(wish.osl)}
    tables["load"] = {"levels": [_number(level) for level in _parts(wish.levels)]}
    if slos := _parts(wish.slos):
        tables["objective"] = {"slos": slos}
    if wish.work == "tune":
        tables["search"] = {"trials": _number(wish.trials)}
    return tables


def _draft(wish: Wish) -> str:
    """The text of the plan that a wish stands for.

    Raises:
        ValueError: If the plan is not allowed; its text says which field and what is allowed.
    """
    import tomli_w

    from trtune.errors import UsageError
    from trtune.planfile import make_plan

    tables = plan_tables(wish)
    if wish.work == "tune" and wish.engine != DEMO and not wish.model:
        raise ValueError("model is missing: a name or a folder, as the server takes it")
    try:
        make_plan(tables, "plan")
    except UsageError as error:
        raise ValueError(str(error)) from error
    return tomli_w.dumps(tables)


def _begin(text: str) -> Path:
    """Begin the work of a plan; gives its session.

    Raises:
        ValueError: If it cannot begin.
    """
    from trtune.errors import KNOWN_ERRORS, error_line
    from trtune.paths import new_session_path
    from trtune.planfile import make_plan
    from trtune.start import begin_session, start_worker

    try:
        plan = make_plan(tomllib.loads(text), "plan")
        path = new_session_path(plan.name or plan.kind)
        begin_session(plan, path)
        start_worker(path)
    except KNOWN_ERRORS as error:
        raise ValueError(error_line(error)) from error
    return path


def _export(session: Path, trial: int | None, form: str) -> str:
    """The configuration of a trial in a form.

    Raises:
        ValueError: If there is none.
    """
    from sessions.reader import SessionReader
    from trtune.errors import KNOWN_ERRORS, error_line
    from trtune.exports.formats import FORMS
    from trtune.exports.winner import Wishes

    try:
        with SessionReader(session) as reader:
            return FORMS[form].make(reader, trial, Wishes())
    except KNOWN_ERRORS as error:
        raise ValueError(error_line(error)) from error


def _export_forms() -> list[tuple[str, str]]:
    from trtune.exports.formats import FORMS

    return [(name, form.help) for name, form in FORMS.items()]


def _find() -> Findings:
    from trtune.find import find_here

    return find_here()


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
