"""Which levels of load a trial is measured at: a list, or the search for the highest load that meets the SLOs.

The search bisects on a logarithmic scale. Whether a further level is worth measuring is told by `bounds.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Measured:
    """What a level came to.

    Attributes:
        value: Concurrency or rate.
        score: The objective there; None when the level was invalid.
        violation: How far the worst-broken SLO is from its limit; 0 when all are met.
        too_light: Whether that SLO is one that a heavier load helps to meet, such as a least throughput.
        uncertainty: Half-width of the 95 % interval of the objective as a share of it; None where it is not known.
    """

    value: float
    score: float | None
    violation: float
    too_light: bool = False
    uncertainty: float | None = None

    @property
    def met(self) -> bool:
        """Whether the level counts: it has a result within every SLO."""
        return self.score is not None and self.violation == 0

    @property
    def too_heavy(self) -> bool:
        """Whether a heavier level would only be worse."""
        return self.violation > 0 and not self.too_light


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
        if self.stop_when_broken and measured and measured[-1].score is not None and measured[-1].too_heavy:
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
        met = max((each.value for each in measured if each.score is not None and not each.too_heavy), default=None)
        broken = min((each.value for each in measured if each.score is None or each.too_heavy), default=None)
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


@dataclass(frozen=True, slots=True)
class HighestListed:
    """Looks for the highest level of a list that meets every SLO, from a guess, one step of the list at a time.

    Attributes:
        values: The levels, ascending.
        guess: Where to begin: at the level nearest to it. None: at the heaviest.
    """

    values: tuple[float, ...]
    guess: float | None = None

    def next(self, measured: Sequence[Measured]) -> float | None:
        """The next heavier level than what met the SLOs, or the next lighter one while none has."""
        if not measured:
            guess = self.values[-1] if self.guess is None else self.guess
            return min(self.values, key=lambda value: abs(math.log(value / guess)))
        met = max((each.value for each in measured if each.score is not None and not each.too_heavy), default=0.0)
        broken = min((each.value for each in measured if each.score is None or each.too_heavy), default=math.inf)
        between = [value for value in self.values if met < value < broken]
        if not between:
            return None
        return between[0] if met else between[-1]


@dataclass(frozen=True, slots=True)
class DecidingLevels:
    """The level that decided, and lighter ones while it breaks an SLO: for a run that is to be repeated, not explored.

    Attributes:
        value: The level at which the configuration was best.
        lighter: The next lighter level of one, or None.
        most: Levels measured at most.
    """

    value: float
    lighter: Callable[[float], float | None]
    most: int = 3

    def next(self, measured: Sequence[Measured]) -> float | None:
        """The deciding level first; nothing more once a level counts."""
        if not measured:
            return self.value
        if measured[-1].met or len(measured) >= self.most:
            return None
        return self.lighter(measured[-1].value)
