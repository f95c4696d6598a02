"""The scale on which the search compares trials: the logarithm of the objective, lowered where SLOs are broken.

On it a gain of so many per cent is the same everywhere, latencies and throughputs look alike, and a configuration that meets no SLO
says how far away it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BROKEN: Final = 0.3
"""What breaking an SLO at all costs; more than a load level usually gains."""

_SLOPE: Final = 2.0
_WORST_VIOLATION: Final = 10.0
_SMALLEST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Scale:
    """How values of the objective become utilities, and back.

    Attributes:
        sign: 1 when more is better, else -1.
        spread: None for the logarithmic scale; else the divisor of a linear one, for objectives that go below 0.
    """

    sign: float
    spread: float | None = None

    @classmethod
    def of(cls, values: NDArray[np.float64], direction: Literal["maximize", "minimize"]) -> Scale:
        """The scale for these values: logarithmic, unless one of them is negative."""
        sign = 1.0 if direction == "maximize" else -1.0
        if len(values) == 0 or values.min() >= 0:
            return cls(sign)
        return cls(sign, float(np.abs(values).mean()))

    def utility(self, value: NDArray[np.float64], violation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Utilities of results; more is better.

        Args:
            value: The objective; on the logarithmic scale 0 counts as next to nothing.
            violation: How far the worst-broken SLO is from its limit, as a share of it.
        """
        plain = np.log(np.maximum(value, _SMALLEST)) if self.spread is None else value / self.spread
        fine = np.where(violation > 0, _BROKEN + _SLOPE * np.log1p(np.minimum(violation, _WORST_VIOLATION)), 0.0)
        utilities: NDArray[np.float64] = self.sign * plain - fine
        return utilities

    def value(self, utility: float) -> float:
        """The value of the objective that has a utility within the SLOs."""
        plain = self.sign * utility
        return math.exp(plain) if self.spread is None else plain * self.spread
