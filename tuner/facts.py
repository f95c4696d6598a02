"""What the session says about its objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sessions.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.search.objective import Objective


def objective_facts(objective: Objective) -> dict[str, Any]:
    """An objective as the session keeps it."""
    return {
        "label": objective.label,
        "metric": objective.metric,
        "stat": objective.stat,
        "direction": objective.direction,
        "unit": METRICS[objective.metric].unit,
        "slos": [
            {"metric": slo.metric, "stat": slo.stat, "op": slo.op, "value": slo.value, "label": str(slo)}
            for slo in objective.slos
        ],
    }


def objectives_facts(objectives: Sequence[Objective]) -> dict[str, Any]:
    """The session's facts about its objectives: `objective` the first one, `objectives` all when there are several."""
    several = [objective_facts(each) for each in objectives] if len(objectives) > 1 else []
    return {"objective": objective_facts(objectives[0]), "objectives": several}
