"""A search that pays for building engines prefers those it has."""

from __future__ import annotations

from engines.knob import Knob, Value
from tuner.search.exchange import Result
from tuner.search.objective import Objective
from tuner.search.search import Search

OBJECTIVE = Objective("output_token_throughput", "avg", "maximize", ())


GRID = (8, 16, 32, 64)


def knobs(cost: str) -> tuple[Knob, ...]:
    return (
        Knob("batch", "int", 8, 1, 64, choices=GRID, cost=cost, searched=True),  # type: ignore[arg-type]
        Knob("tokens", "int", 8, 1, 64, choices=GRID, cost=cost, searched=True),  # type: ignore[arg-type]
        Knob("share", "int", 8, 1, 64, choices=GRID, searched=True),
        Knob("quick", "int", 8, 1, 64, choices=GRID, searched=True),
    )


def value(params: dict[str, Value]) -> float:
    """Settings of the build matter a little, those of the start much."""
    weights = {"batch": 0.05, "tokens": 0.05, "share": 1.0, "quick": 0.5}
    return 100.0 + sum(weight * float(params.get(name) or 8) for name, weight in weights.items())


def builds(cost: str, seed: int) -> tuple[int, float]:
    """Engines built in twelve trials, and the best value."""
    search = Search(knobs(cost), OBJECTIVE, seed=seed)
    engines, best = set(), 0.0
    for _ in range(12):
        proposal = search.ask()
        assert proposal is not None
        engines.add((proposal.params.get("batch", 8), proposal.params.get("tokens", 8)))
        reached = value(proposal.params)
        best = max(best, reached)
        search.tell(proposal, Result(reached))
    return len(engines), best


def test_fewer_engines_are_built_when_building_is_paid_for() -> None:
    paid = [builds("build", seed) for seed in range(4)]
    free = [builds("restart", seed) for seed in range(4)]

    assert sum(count for count, _ in paid) < sum(count for count, _ in free)
    assert min(best for _, best in paid) > 0.9 * max(best for _, best in free)
