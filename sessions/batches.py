"""Intervals from a few batches of a series: whether the batches are independent, and Student's t for their number."""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_TERMS = 1000
_PRECISION = 1e-14


@lru_cache(maxsize=1024)
def student_t(confidence: float, freedom: float) -> float:
    """Two-sided quantile of Student's t, to nine digits, for any positive number of degrees of freedom."""
    low, high = 0.0, 1.0
    while _outside(high, freedom) > 1 - confidence:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _outside(middle, freedom) > 1 - confidence else (low, middle)
    return high


def _outside(t: float, freedom: float) -> float:
    """Probability that Student's t lies beyond ±t (Abramowitz and Stegun 26.5.27)."""
    return _beta_share(freedom / 2, 0.5, freedom / (freedom + t * t))


def _beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) from the end where that converges fast."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(b, a, 1 - x)
    scale = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    upper, lower, fraction = 1.0, 0.0, 1.0
    for term in range(1, _MOST_TERMS):
        step = _beta_term(a, b, x, term)
        lower, upper = 1 / (1 + step * lower), 1 + step / upper
        fraction *= upper * lower
        if abs(upper * lower - 1) < _PRECISION:
            break
    return scale / fraction


def _beta_term(a: float, b: float, x: float, term: int) -> float:
    """A coefficient of that continued fraction, from 1 on."""
    m = term // 2
    if term % 2:
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))


def are_correlated(estimates: NDArray[np.float64]) -> bool:
    """Whether neighbouring batches still depend on each other: von Neumann's ratio against independence, one-sided at 10 %."""
    count = len(estimates)
    variance = float(((estimates - estimates.mean()) ** 2).sum())
    if variance <= 0:
        return False
    ratio = float((np.diff(estimates) ** 2).sum()) / variance
    # Mean 2 and this variance under independence (von Neumann 1941).
    spread = sqrt(4 * (count - 2) / (count**2 - 1))
    return ratio < 2 - NormalDist().inv_cdf(0.90) * spread
