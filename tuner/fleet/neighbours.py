"""Whether trials side by side disturb each other: the same configuration alone, then on all seats at once."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sessions.records import PROOF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.fleet.base import Fleet
    from tuner.search.objective import Objective
    from tuner.trial import Order

TOLERANCE: Final = 0.05
"""A loss beyond it makes results of neighbours incomparable with those of a trial alone."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What the check found.

    Attributes:
        alone: Score of the configuration alone.
        together: Its scores on all seats at once.
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


async def check_neighbours(
    fleet: Fleet, order: Order, gpus: int, seats: int, objective: Objective, alone: float
) -> Disturbance | None:
    """Run a configuration on all seats at once and hold it against its score alone.

    Args:
        fleet: Where trials run.
        order: The configuration, measured alone before; its trials count as proof and never as the best.
        gpus: GPUs it needs.
        seats: How many run at once.
        objective: What is compared.
        alone: Its score alone.

    Returns:
        What was found; None when not all of them gave a score.
    """
    assert order.kind == PROOF
    results = await asyncio.gather(*(fleet.run(order, gpus, lambda _: None) for _ in range(seats)))
    scores = [result.score.value for result in results if result.score is not None and result.score.value is not None]
    return Disturbance.between(objective, alone, scores) if len(scores) == seats else None
