"""What a search may use, and what it has used: trials, time, money."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from sessions.clock import NS_PER_S, covered_ns
from sessions.records import FINISHED_STATES, PROOF, REFERENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sessions.records import Params, Trial
    from tuner.fleet.base import Fleet
    from tuner.plan import Plan
    from tuner.trial import Order, TrialResult

UNCOUNTED = (PROOF, REFERENCE)
"""Kinds of trials that are no part of the number that a plan allows."""


@dataclass(slots=True)
class Budget:
    """The budget of a session, over all of its workers.

    Attributes:
        plan: Says what may be used.
        gpus_of: How many GPUs a configuration uses.
        done: Trials that are over; of a start that was tried again only the last counts.
        money: What trials have cost so far; 0 without a price.
        earlier_s: Seconds that earlier workers used.
        begun_s: When this worker began, in `time.monotonic`.
    """

    plan: Plan
    gpus_of: Callable[[Params], int]
    done: int = 0
    money: float = 0.0
    earlier_s: float = 0.0
    begun_s: float = 0.0

    @classmethod
    def of(cls, plan: Plan, gpus_of: Callable[[Params], int], trials: Sequence[Trial]) -> Budget:
        """The budget when a worker begins: what the session's trials have used is used."""
        budget = cls(plan, gpus_of, begun_s=time.monotonic())
        spans = [(trial.start_ns, trial.end_ns or trial.start_ns) for trial in trials]
        # Trials side by side use the same time once, and each its own GPUs.
        budget.earlier_s = covered_ns(spans) / NS_PER_S
        for trial, (start_ns, end_ns) in zip(trials, spans, strict=True):
            budget.spend(trial.params, (end_ns - start_ns) / NS_PER_S)
        budget.done = sum(
            trial.kind not in UNCOUNTED and trial.state in FINISHED_STATES and not _tried_again(trial, following)
            for trial, following in zip_longest(trials, trials[1:])
        )
        return budget

    def spend(self, params: Params, seconds: float) -> None:
        """Count the cost of a run."""
        if self.plan.price.gpu_hour is not None:
            self.money += self.plan.price.gpu_hour * self.gpus_of(params) * seconds / 3600

    @property
    def spent_s(self) -> float:
        """Seconds used so far."""
        return self.earlier_s + time.monotonic() - self.begun_s

    def over(self, under_way: int = 0) -> str | None:
        """Why no further trial may begin beside those under way, in words, or None."""
        wish = self.plan.search
        if self.done + under_way >= wish.trials:
            return f"all {wish.trials} trials are done"
        if wish.time_s is not None and self.spent_s >= wish.time_s:
            return f"the time budget of {wish.time_s:g} s is spent"
        if wish.money is not None and self.money >= wish.money:
            return f"the money budget of {wish.money:g} is spent: {self.money:.2f} used"
        return None

    def facts(self) -> dict[str, Any]:
        """The budget as the session keeps it."""
        return {
            **budget_facts(self.plan),
            "spent": {"trials": self.done, "time_s": round(self.spent_s, 1), "money": round(self.money, 4)},
        }


class CountedFleet:
    """A fleet whose trials, of whatever kind, are counted: not the time they wait for a place."""

    def __init__(self, fleet: Fleet, budget: Budget) -> None:
        self._fleet = fleet
        self._budget = budget

    @property
    def lanes(self) -> int:
        """Trials side by side at most."""
        return self._fleet.lanes

    def room(self, gpus: int) -> int:
        """How many trials of so many GPUs each can run at the same time."""
        return self._fleet.room(gpus)

    async def run(self, order: Order, gpus: int, on_number: Callable[[int], None]) -> TrialResult:
        """Run a trial as the fleet does, and count what it costs.

        Raises:
            BadPlan: If no host has that many GPUs.
        """
        begun_s: list[float] = []

        def begin(number: int) -> None:
            begun_s.append(time.monotonic())
            on_number(number)

        try:
            return await self._fleet.run(order, gpus, begin)
        finally:
            if begun_s:
                self._budget.spend(order.params, time.monotonic() - begun_s[0])

    async def close(self) -> None:
        """Let go of all places."""
        await self._fleet.close()


def _tried_again(trial: Trial, following: Trial | None) -> bool:
    """Whether a start failed for no reason of its configuration and was repeated at once."""
    return trial.state == "failed" and following is not None and following.params == trial.params


def budget_facts(plan: Plan) -> dict[str, Any]:
    """What a plan allows."""
    return {"trials": plan.search.trials, "time_s": plan.search.time_s, "money": plan.search.money}
