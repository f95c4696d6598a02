"""Changes the objective of a session from outside: asks its worker while one works on it, else does it itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from engines.registry import get_engine
from sessions.commands import send_command
from sessions.holding import is_written
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tuner.bench import parallel_gpus
from tuner.budget import Budget
from tuner.errors import BadPlan, TunerError
from tuner.explaining import explain
from tuner.rescoring import adopt_plan, rescore_session
from tuner.searching import open_search
from tuner.steering import with_objective
from tuner.stored_plan import stored_plan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ANSWER_S = 60.0
"""How long a worker may take to score everything anew."""

_POLL_S = 0.1


def change_objective(path: Path, wish: Mapping[str, Any]) -> None:
    """Score a session under another objective.

    Args:
        path: The session.
        wish: Arguments of the command `objective` (`tuner.steering.with_objective`).

    Raises:
        BadPlan: If that is no objective, or the session searches nothing.
        TunerError: If the worker does not answer.
        SessionError: If the file holds no plan that can be read, or cannot be written.
    """
    if is_written(path):
        _ask_worker(path, wish)
        return
    with SessionReader(path) as reader:
        meta, trials, plan = reader.meta(), reader.trials(), stored_plan(reader)
    changed = with_objective(plan, wish)
    recorder = Recorder.resume(path)
    try:
        adopt_plan(recorder, plan, changed, meta.get("knobs", ()))
        rescore_session(recorder, changed)
        if plan.kind == "tune":
            recorder.set_meta({"diagnosis": {}})  # those of an older trtune followed other rules
            engine = get_engine(changed.engine.name)
            search = open_search(path, changed, engine)
            explain(
                recorder,
                changed,
                engine,
                search,
                Budget.of(changed, lambda params: parallel_gpus(changed, engine, params) or 1, trials),
            )
            search.close()
    finally:
        recorder.close()


def _ask_worker(path: Path, wish: Mapping[str, Any]) -> None:
    number = send_command(path, "objective", wish)
    deadline = time.monotonic() + ANSWER_S
    with SessionReader(path) as reader:
        while time.monotonic() < deadline:
            command = next(each for each in reader.commands() if each.id == number)
            if command.state == "refused":
                raise BadPlan(command.reply)
            if command.state == "done":
                return
            time.sleep(_POLL_S)
    raise TunerError(f"{path}: the worker did not answer within {ANSWER_S:g} s")
