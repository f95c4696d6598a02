"""Runs the plan of an earlier session again, and says what came of it beside the first time."""

from __future__ import annotations

import copy
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sessions.compare import compare, take_side
from sessions.conditions import conditions_of
from sessions.errors import SessionError
from sessions.reader import SessionReader
from sessions.summary import summarise_session
from trtune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sessions.comparison import Comparison

_SIMULATED = ["{python}", "-m", "engines.simulated"]

_OUTSIDE = (
    ("fleet", ("cluster",)),
    ("quality", ("prompts", "tasks")),
    ("search", ("warm_start",)),
    ("gpu", ("dcgm_url",)),
)
"""Tables of a plan, and their fields that lead to other hosts, files or programs."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The session that is run again.

    Attributes:
        tables: Its plan.
        facts: What the new session keeps of it, for the report.
    """

    tables: dict[str, Any]
    facts: Mapping[str, Any]


def read_earlier(path: Path, *, trusted: bool) -> Earlier:
    """The plan of a session, and its conditions and result.

    Args:
        path: The session.
        trusted: Whether the user knows it: its plan says which programs are started.

    Raises:
        UsageError: If it has no plan, or comes from elsewhere and is not trusted.
    """
    with SessionReader(path) as reader:
        meta = reader.meta()
        plan = meta.get("plan")
        if not isinstance(plan, dict) or meta.get("kind") != "tune":
            raise UsageError(f"{path}: it holds no tuning that could be run again")
        if not trusted:
            _refuse_strangers(path, meta, plan)
        best = summarise_session(reader.trials(), meta).best
        facts = {
            "session": path.name,
            "conditions": conditions_of(reader, meta),
            "plan": plan,
            "best": None if best is None else {"trial": best.number, "params": best.params, "score": best.score},
            "verdict": meta.get("verdict"),
        }
    return Earlier(copy.deepcopy(plan), facts)


def _refuse_strangers(path: Path, meta: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """A session is only looked at; running its plan starts what the plan says, so a stranger's needs a word.

    Raises:
        UsageError: If the session is from another host, or starts a program of its own.
    """
    if _only_simulates(plan):
        return
    engine = plan.get("engine")
    command = engine.get("command") if isinstance(engine, dict) else None
    if command and command != _SIMULATED:
        raise UsageError(f"{path}: its plan starts {command!r}; if you know where it comes from, add --trust")
    refuse_other_hosts(path, meta)


def refuse_other_hosts(path: Path, meta: Mapping[str, Any]) -> None:
    """Refuse to start what a session from elsewhere says.

    Raises:
        UsageError: If it was recorded on another host.
    """
    host = meta.get("host")
    name = host.get("name") if isinstance(host, dict) else None
    if name != platform.node():
        raise UsageError(f"{path}: it was recorded on host {name!r}; if you know where it comes from, add --trust")


def _only_simulates(plan: Mapping[str, Any]) -> bool:
    """Whether a plan starts the simulated engine on this host and touches nothing else of it, whoever wrote the plan."""
    engine, workload = plan.get("engine"), plan.get("workload", {})
    if not isinstance(engine, dict) or not isinstance(workload, dict) or engine.get("command") != _SIMULATED:
        return False
    if any(
        isinstance(told := plan.get(name), dict) and any(told.get(field) for field in fields)
        for name, fields in _OUTSIDE
    ):
        return False
    return (
        engine.get("launch", "process") == "process" and not engine.get("environment") and not workload.get("dataset")
    )


def compare_repeat(earlier: Path, repeat: Path) -> Comparison:
    """The winner of the first time beside that of the second.

    Raises:
        SessionError: If one of them has none.
    """
    sides = []
    for path, name in ((earlier, "then"), (repeat, "now")):
        with SessionReader(path) as reader:
            sides.append(take_side(reader, None, name))
    return compare(sides)


def repeat_lines(earlier: Path, repeat: Path) -> list[str]:
    """The comparison for a terminal; one line when there is nothing to compare."""
    from trtune.compared import comparison_lines
    from tui.glyphs import ASCII

    with SessionReader(repeat) as reader:
        status = reader.worker()
    if status is None or not status.over:
        return [f"compare it when it is over: trtune compare {earlier} {repeat}"]
    try:
        told = compare_repeat(earlier, repeat)
    except SessionError as error:
        return ["", f"not compared with {earlier.name}: {error}"]
    return ["", f"compared with {earlier.name}:", *comparison_lines(told, ASCII)]
