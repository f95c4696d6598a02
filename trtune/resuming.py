"""Changes the plan of a session that is gone on with: how long to search, and where; not what was searched for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.reader import SessionReader
from sessions.recorder import Recorder
from trtune.planfile import make_plan, put
from tuner.budget import budget_facts
from tuner.stored_plan import stored_plan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def change_stored_plan(path: Path, changes: Mapping[str, object]) -> None:
    """Write other values into the plan of a session that nobody works on.

    Args:
        path: The session.
        changes: Values by field, such as `search.trials` or `fleet.cluster`.

    Raises:
        SessionError: If it holds no plan that can be read, or cannot be written.
        UsageError: If a value is not allowed.
    """
    with SessionReader(path) as reader:
        tables, budget = stored_plan(reader).model_dump(mode="json"), reader.meta().get("budget")
    for field, value in changes.items():
        put(tables, field, value)
    plan = make_plan(tables, str(path))
    spent = budget if isinstance(budget, dict) else {}
    recorder = Recorder.resume(path)
    try:
        recorder.set_meta({"plan": plan.model_dump(mode="json"), "budget": {**spent, **budget_facts(plan)}})
    finally:
        recorder.close()
