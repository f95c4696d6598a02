"""Whether trials side by side disturb each other: the same configuration alone, then on several lanes at once."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sessions.reader import SessionReader
from sessions.records import PROOF
from tuner.explaining import deciding_level
from tuner.search.levels import DecidingLevels
from tuner.side_by_side import side_by_side
from tuner.trial import Order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.records import Trial
    from tuner.bench import Bench
    from tuner.fleet.base import Fleet
    from tuner.search.objective import Objective
    from tuner.trial import TrialResult

_META: Final = "neighbours"

TOLERANCE: Final = 0.05
"""A loss beyond it makes results of neighbours incomparable with those of a trial alone."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What the check found.

    Attributes:
        alone: Score of the configuration alone.
        together: Its scores on several lanes at once.
        loss: By which share of the score alone the median of them is worse; negative when better.
    """

    alone: float
    together: tuple[float, ...]
    loss: float

    @classmethod
    def between(cls, objective: Objective, alone: float, together: Sequence[float]) -> Disturbance:
        """From the scores of the configuration alone and together."""
        return cls(alone, tuple(together), -objective.gain(statistics.median(together), alone))

    @property
    def disturbed(self) -> bool:
        """Whether they may not run side by side."""
        return not self.loss <= TOLERANCE

    @property
    def text(self) -> str:
        """The finding in words."""
        count = len(self.together)
        if self.disturbed:
            return f"{count} trials side by side lose {self.loss:.1%} each: they run one after the other"
        return f"{count} trials side by side lose {max(self.loss, 0.0):.1%} each: they do not disturb each other"

    def facts(self) -> dict[str, Any]:
        """The same for the session."""
        return {
            "alone": self.alone,
            "together": list(self.together),
            "loss": self.loss,
            "tolerance": TOLERANCE,
            "disturbed": self.disturbed,
            "text": self.text,
        }


async def bear_each_other(bench: Bench, fleet: Fleet, best: int) -> bool:
    """Whether trials may run side by side: not when neighbours disturb each other. Found out once for a session.

    Args:
        bench: What every trial shares.
        fleet: Where trials run.
        best: Number of the best trial so far, which ran alone.
    """
    if not bench.plan.fleet.check_neighbours:
        return True
    with SessionReader(bench.recorder.path) as reader:
        facts, trial = reader.meta().get(_META), reader.trials()[best]
    await bench.control.gate()
    if facts is None and not bench.control.stop.is_set():
        facts = await _checked(bench, fleet, trial)
    return not (facts and facts.get("disturbed"))


async def _checked(bench: Bench, fleet: Fleet, trial: Trial) -> dict[str, Any] | None:
    """What the check says of a trial's configuration, told in the session; None when it cannot be made or says nothing."""
    with SessionReader(bench.recorder.path) as reader:
        level = deciding_level(reader, trial, bench.objective)
    gpus = bench.gpus_of(trial.params)
    lanes = fleet.room(gpus)
    if level is None or trial.score is None or lanes < 2:
        return None
    bench.recorder.set_worker("running", f"checking whether {lanes} trials side by side disturb each other")
    order = Order(PROOF, trial.params, DecidingLevels(level.value, bench.plan.load.lighter))
    found = await check_neighbours(fleet, order, gpus, lanes, bench.objective, trial.score)
    if found is None:
        return None
    bench.recorder.set_meta({_META: found.facts()})
    bench.recorder.event("neighbours", found.text, data=found.facts())
    return found.facts()


class Meeting:
    """Where trials wait for each other once their servers are ready, so that all of them are measured at the same time."""

    def __init__(self, expected: int) -> None:
        """Wait for so many."""
        self._expected = expected
        self._everybody = asyncio.Event()

    async def gate(self, *_: object) -> None:
        """The gate of a trial's order: nothing is asked of its server, only the others are waited for."""
        self.leave()
        await self._everybody.wait()

    def leave(self) -> None:
        """One more is not waited for: it has come, or it never will."""
        self._expected -= 1
        if self._expected <= 0:
            self._everybody.set()


async def check_neighbours(
    fleet: Fleet, order: Order, gpus: int, lanes: int, objective: Objective, alone: float
) -> Disturbance | None:
    """Run a configuration on several lanes at once and hold it against its score alone.

    Args:
        fleet: Where trials run.
        order: The configuration, measured alone before; its trials count as proof and never as the best.
        gpus: GPUs it needs.
        lanes: How many run at once.
        objective: What is compared.
        alone: Its score alone.

    Returns:
        What was found; None when not all of them gave a score.
    """
    assert order.kind == PROOF
    meeting = Meeting(lanes)
    met = replace(order, gate=meeting.gate)

    async def run() -> TrialResult:
        try:
            return await fleet.run(met, gpus, lambda _: None)
        finally:
            meeting.leave()  # in case it failed before it came to the meeting

    results = await side_by_side(run() for _ in range(lanes))
    scores = [result.score.value for result in results if result.score is not None and result.score.value is not None]
    return Disturbance.between(objective, alone, scores) if len(scores) == lanes else None
