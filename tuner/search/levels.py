"""Which levels of load a trial is measured at: a list, or the search for the highest load that meets the SLOs.

The search bisects on a logarithmic scale. Both forms leave a trial as soon as it cannot win: in a closed loop the throughput
never grows faster than the number of concurrent requests, so what was measured at one level bounds every heavier one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Measured:
    """What a level came to.

    Attributes:
        value: Concurrency or rate.
        score: The objective there; None when the level was invalid.
        violation: How far the worst-broken SLO is from its limit; 0 when all are met.
    """

    value: float
    score: float | None
    violation: float


class LevelChooser(Protocol):
    """Chooses the next level from what has been measured in this trial."""

    def next(self, measured: Sequence[Measured]) -> float | None:
        """The next level's value; None when the trial has been measured enough."""
        ...


@dataclass(frozen=True, slots=True)
class ListedLevels:
    """The levels of a list, lightest first, until one breaks an SLO: heavier ones would too.

    Attributes:
        values: The levels, ascending.
        stop_when_broken: False measures all of them all the same.
    """

    values: tuple[float, ...]
    stop_when_broken: bool = True

    def next(self, measured: Sequence[Measured]) -> float | None:
        """The next level of the list."""
        if self.stop_when_broken and measured and measured[-1].score is not None and measured[-1].violation > 0:
            return None
        return self.values[len(measured)] if len(measured) < len(self.values) else None


@dataclass(frozen=True, slots=True)
class HighestLevel:
    """Looks for the highest load that meets every SLO.

    Attributes:
        low: Lightest load of interest.
        high: Heaviest load of interest.
        resolution: The search ends when the load is known to this share.
        most: Levels measured at most.
        whole: Whether levels are whole numbers (concurrency).
        guess: Where to begin; None: in the middle, on a logarithmic scale.
    """

    low: float
    high: float
    resolution: float = 0.1
    most: int = 6
    whole: bool = True
    guess: float | None = None

    def next(self, measured: Sequence[Measured]) -> float | None:
        """The next level, between the heaviest that met the SLOs and the lightest that broke one."""
        if len(measured) >= self.most:
            return None
        met = max((each.value for each in measured if each.score is not None and each.violation == 0), default=None)
        broken = min((each.value for each in measured if each.score is None or each.violation > 0), default=None)
        if met is None and broken is None:
            first = self.guess if self.guess is not None else math.sqrt(self.low * self.high)
            return self._rounded(min(max(first, self.low), self.high))
        if broken is None:
            assert met is not None
            return None if met >= self.high else self._rounded(min(met * 2, self.high))
        if met is None:
            return None if broken <= self.low else self._between(self.low, broken, measured, try_low=True)
        return self._between(met, broken, measured)

    def _between(
        self, below: float, above: float, measured: Sequence[Measured], *, try_low: bool = False
    ) -> float | None:
        if above / below <= 1 + self.resolution and not try_low:
            return None
        value = self._rounded(math.sqrt(below * above))
        seen = {each.value for each in measured}
        if value in seen or value >= above:
            value = self._rounded(below)
        return None if value in seen else value

    def _rounded(self, value: float) -> float:
        return float(max(1, round(value))) if self.whole else value


def best_possible(measured: Sequence[Measured], heaviest: float, margin: float = 0.03) -> float:
    """The most throughput a configuration can still reach in a closed loop, from what was measured of it.

    Args:
        measured: Its levels so far.
        heaviest: The heaviest load that will be tried.
        margin: Share added for the noise of a measurement.

    Returns:
        An upper bound of the throughput at any load up to the heaviest (or to the lightest that broke an SLO); infinite when
        nothing is known.
    """
    met = [each for each in measured if each.score is not None and each.violation == 0]
    if not met:
        return math.inf
    broken = min((each.value for each in measured if each.violation > 0), default=heaviest)
    ceiling = min(heaviest, broken)
    # Throughput over concurrency never rises with the concurrency.
    bound = min(each.score * max(ceiling / each.value, 1.0) for each in met if each.score is not None)
    return max(bound, max(each.score for each in met if each.score is not None)) * (1 + margin)
