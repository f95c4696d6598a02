"""Budgets in trials, time and money, over all workers of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from sessions.records import PROOF, Params, Trial
from tuner.budget import Budget, CountedFleet
from tuner.fleet.base import Fleet
from tuner.plan import Plan
from tuner.search.levels import ListedLevels
from tuner.trial import Order, TrialResult

if TYPE_CHECKING:
    from collections.abc import Callable


def plan(**search: Any) -> Plan:
    return Plan.model_validate({"engine": {"model": "m"}, "price": {"gpu_hour": 3.6}, "search": search})


def trial(number: int, params: Params, state: str = "complete", kind: str = "search", start_s: float = 0) -> Trial:
    """A trial of 100 s."""
    return Trial(number, kind, state, params, start_ns=int(start_s * 1e9), end_ns=int((start_s + 100) * 1e9))


def budget(plan: Plan, *trials: Trial) -> Budget:
    return Budget.of(plan, lambda params: 4 if params.get("tp") == 4 else 1, trials)


def test_trials_are_counted_without_proofs_interruptions_and_repeated_starts() -> None:
    told = budget(
        plan(trials=4),
        trial(0, {}, kind="baseline"),
        trial(1, {"a": 1}, "failed"),
        trial(2, {"a": 1}),
        trial(3, {"a": 2}, "interrupted"),
        trial(4, {"a": 2}, "infeasible"),
        trial(5, {}, kind=PROOF),
    )

    assert told.done == 3
    assert told.over() is None
    told.done += 1
    assert told.over() == "all 4 trials are done"


def test_money_counts_every_gpu_and_every_run() -> None:
    told = budget(plan(money=0.6), trial(0, {}), trial(1, {"tp": 4}))

    assert told.money == 0.1 + 0.4
    assert told.over() is None
    told.spend({"tp": 4}, 100)
    assert told.over() == "the money budget of 0.6 is spent: 0.90 used"


def test_time_of_earlier_workers_counts() -> None:
    told = budget(plan(time_s=150), trial(0, {}), trial(1, {}, start_s=110))

    assert told.over() == "the time budget of 150 s is spent"
    assert told.facts()["spent"]["time_s"] >= 200


def test_trials_side_by_side_use_the_same_time_once_and_each_its_own_money() -> None:
    side_by_side = [trial(0, {}), trial(1, {}, start_s=20), trial(2, {}, start_s=40), trial(3, {}, start_s=300)]

    told = budget(plan(time_s=900), *side_by_side)

    assert 240 <= told.spent_s < 250
    assert told.money == 4 * 0.1


@pytest.mark.parametrize("kind", ["search", PROOF])
async def test_a_run_of_any_kind_costs_from_the_moment_it_has_a_place(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("tuner.budget.time.monotonic", lambda: now_s[0])

    class Slow:
        """A fleet that has a place after 1000 s, and takes 100 s."""

        async def run(self, _order: Order, _gpus: int, on_number: Callable[[int], None]) -> TrialResult:
            now_s[0] += 1000
            on_number(7)
            now_s[0] += 100
            return TrialResult(7, "complete")

    told = budget(plan())
    fleet, numbers = CountedFleet(cast(Fleet, Slow()), told), list[int]()
    await fleet.run(Order(kind, {"tp": 4}, ListedLevels(())), 4, numbers.append)

    assert told.money == pytest.approx(0.4)
    assert numbers == [7]
