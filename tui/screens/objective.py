"""The form that changes what the search looks for: metric, direction, limits, or a preset."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tui.screens.form import Field, FieldProblem, FormScreen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.front_door import FrontDoor
    from tui.snapshot import Snapshot

_SLO = re.compile(
    r"[a-z_0-9]+:(?:[a-z0-9]+:(?:<=|>=|<|>|le|ge|lt|gt):)?[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?$", re.IGNORECASE
)
_DIRECTIONS = ("maximize", "minimize")


def objective_form(snapshot: Snapshot, door: FrontDoor) -> FormScreen:
    """The form; it gives the arguments of the command `objective`: what was changed.

    A new metric then takes its usual statistic and direction unless they are named, and limits alone leave several objectives be.
    """
    objective = snapshot.facts.objective
    measured = _measured(snapshot)
    presets = [name for name, _ in door.presets]
    slos = ", ".join(f"{slo.metric}:{slo.stat}:{slo.op}:{slo.value:g}" for slo in objective.slos)
    before = (objective.metric, objective.stat or "avg", _DIRECTIONS[not objective.maximize], slos)

    def read(texts: Sequence[str]) -> dict[str, Any]:
        preset, metric, stat, direction, limits = (text.strip() for text in texts)
        if preset:
            return {"preset": _one_of(0, "preset", preset, presets)}
        if measured and metric not in measured:
            raise FieldProblem(1, f"metric: {metric[:40]!r} was not measured; there are: {', '.join(measured)}")
        told = zip(("metric", "stat", "direction"), (metric, stat, direction), before, strict=False)
        changed: dict[str, Any] = {name: typed for name, typed, known in told if typed not in ("", known)}
        of = measured.get(metric, [])
        if measured and "stat" in changed and stat not in of:
            raise FieldProblem(2, f"statistic: {metric} has no {stat[:20]!r}; there are: {', '.join(of)}")
        if "direction" in changed:
            _one_of(3, "direction", direction, _DIRECTIONS)
        return {**changed, "slos": _limits(4, limits)}

    hints = (
        ", ".join(presets) or "none known here",
        ", ".join(list(measured)[:4]) or "as in docs/metrics.md",
        "avg, p50, p90, p99",
        "maximize, minimize",
        "ttft:p99:<=:500, tpot:p99:<=:25",
    )
    names = (
        "preset (empty: as below)",
        "metric",
        "statistic (of a new metric: as usual)",
        "direction (of a new metric: as usual)",
        "limits (SLOs)",
    )
    fields = [Field(name, value, hint) for name, value, hint in zip(names, ("", *before), hints, strict=True)]
    title = "What to search for: finished trials are judged anew, nothing runs again"
    return FormScreen(title, fields, read, "change")


def _measured(snapshot: Snapshot) -> dict[str, list[str]]:
    """Metrics of the finished trials with their statistics; empty when nothing is measured yet."""
    found: dict[str, list[str]] = {}
    for trial in snapshot.all_trials[-50:]:
        for metric, stats in trial.result.items():
            known = found.setdefault(metric, [])
            known += [stat for stat in stats if stat not in known]
    return found


def _one_of(place: int, name: str, typed: str, allowed: Sequence[str]) -> str:
    if typed not in allowed:
        raise FieldProblem(place, f"{name}: {typed[:20]!r} is not allowed, only {', '.join(allowed) or 'none'}")
    return typed


def _limits(place: int, text: str) -> list[str]:
    limits = [part.strip() for part in text.split(",") if part.strip()]
    for limit in limits:
        if not _SLO.match(limit):
            raise FieldProblem(place, f"limit {limit[:40]!r}: write metric:stat:op:value, for example ttft:p99:<=:500")
    return limits
