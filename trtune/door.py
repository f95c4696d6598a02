"""What the program lends the screen: finding servers, writing plans, starting work, exporting. Each part loads when used."""

from __future__ import annotations

import functools
import tomllib
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tui.front_door import Findings, FrontDoor, Wish
from tuner.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

DEMO = "demo"


def make_door() -> FrontDoor:
    """Everything the screen may ask of the program."""
    presets = [(name, goal.help) for name, goal in PRESETS.items()]
    return FrontDoor(presets, _export_forms, _told(_export), _find, _told(_draft), _told(_begin))


def _told(function: Callable[P, T]) -> Callable[P, T]:
    """The same, with every error as a ValueError of one line: the screen shows it, and goes on whatever a file held."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        from trtune.errors import KNOWN_ERRORS, error_line, fault_line

        try:
            return function(*args, **kwargs)
        except KNOWN_ERRORS as error:
            raise ValueError(error_line(error)) from error
        except Exception as error:
            raise ValueError(error_line(error) if isinstance(error, ValueError) else fault_line(error)) from error

    return call


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
        UsageError, ValueError: If the plan is not allowed; its text says which field and what is allowed.
    """
    import tomli_w

    from trtune.planfile import make_plan

    tables = plan_tables(wish)
    if wish.work == "tune" and wish.engine != DEMO and not wish.model:
        raise ValueError("model is missing: a name or a folder, as the server takes it")
    make_plan(tables, "plan")
    return tomli_w.dumps(tables)


def _begin(text: str) -> Path:
    """Begin the work of a plan; gives its session."""
    from trtune.paths import new_session_path
    from trtune.planfile import make_plan
    from trtune.start import begin_session, start_worker

    plan = make_plan(tomllib.loads(text), "plan")
    path = new_session_path(plan.name or plan.kind)
    begin_session(plan, path)
    start_worker(path)
    return path


def _export(session: Path, trial: int | None, form: str) -> str:
    """The configuration of a trial in a form."""
    from sessions.reader import SessionReader
    from trtune.exports.formats import FORMS
    from trtune.exports.winner import Wishes

    with SessionReader(session) as reader:
        return FORMS[form].make(reader, trial, Wishes())


def _export_forms() -> list[tuple[str, str]]:
    from trtune.exports.formats import FORMS

    return [(name, form.help) for name, form in FORMS.items()]


def _find() -> Findings:
    from trtune.errors import fault_line
    from trtune.find import find_here

    try:
        return find_here()
    except Exception as error:  # noqa: BLE001 - whatever a driver, a container or a stranger's server did
        return Findings(notes=(fault_line(error),))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
