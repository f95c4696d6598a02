"""When a series has become steady, and how well its mean is known.

Two named methods, tested on series with known truth (`tests/load/test_steady.py`):

* MSER-5 (White 1997; White, Cobb and Spratt 2000) finds the end of the warm-up: the series is averaged in fives, and
  cut where the squared standard error of the mean of the rest, `sum((y - mean)^2) / n^2`, is smallest. A cut beyond the
  first half means that the series has not become steady.
* Batch means (Law, Simulation Modeling and Analysis, chapter 9; Steiger and Wilson 2001 for the check) give a
  confidence interval in spite of neighbouring values depending on each other: the mean of each of k long batches is
  nearly independent of the others, so Student's t applies to them. k is halved as long as the batch means are still
  correlated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

import numpy as np

from sessions.batches import are_correlated, student_t

if TYPE_CHECKING:
    from numpy.typing import NDArray

MSER_BATCH = 5
MAX_BATCHES = 32
MIN_BATCHES = 8
MIN_PER_BATCH = 2
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval at level CONFIDENCE.

    Attributes:
        center: The estimate.
        half_width: Half the length of the interval; infinite when there are too few values.
        batches: Batches it rests on.
    """

    center: float
    half_width: float
    batches: int

    @property
    def relative(self) -> float:
        """Half-width over the size of the estimate."""
        return self.half_width / abs(self.center) if self.center else inf


def warmup_length(values: NDArray[np.float64]) -> int | None:
    """Values to leave out at the start, by MSER-5; None when the series has not become steady (or is too short to tell)."""
    groups = len(values) // MSER_BATCH
    if groups < 2 * MIN_BATCHES:
        return None
    means = values[: groups * MSER_BATCH].reshape(groups, MSER_BATCH).mean(axis=1)
    counts = np.arange(groups, 0, -1, dtype=np.float64)
    # Centred first, so that sums of squares do not swallow small variances.
    centred = means - means.mean()
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred**2)[::-1])[::-1]
    scores = np.maximum(squares - sums**2 / counts, 0.0) / counts**2
    half = groups // 2
    # The last values always look steady because there are so few of them: the cut is looked for in the whole, and must
    # be in the first half.
    cut = int(np.argmin(scores[: groups - MIN_BATCHES // 2]))
    return None if cut > half else cut * MSER_BATCH


def batch_interval(values: NDArray[np.float64], stat: str = "avg") -> Interval:
    """Confidence interval of a steady series' mean, or of a percentile.

    For a percentile the batches' own percentiles take the place of their means (Law, chapter 9.5.3): right for many
    values per batch. An extreme grows with the number of values, so that no interval of it can be told, nor is one of `std`.

    Args:
        values: In the order in which they happened.
        stat: `avg` or `p` and a number; of any other statistic the interval is infinite.
    """
    if stat != "avg" and not stat.startswith("p"):
        return Interval(0.0, inf, 0)
    rank = None if stat == "avg" else float(stat.removeprefix("p"))
    center = _estimate(values, rank)
    per_batch_wanted = MIN_PER_BATCH if rank is None else max(10, int(np.ceil(3 / max(1 - rank / 100, 1e-3))))
    batches = MAX_BATCHES
    while batches >= MIN_BATCHES:
        size = len(values) // batches
        if size >= per_batch_wanted:
            # The oldest remainder is left out, so that all batches are alike.
            grid = values[len(values) - size * batches :].reshape(batches, size)
            estimates = grid.mean(axis=1) if rank is None else np.percentile(grid, rank, axis=1)
            if batches // 2 < MIN_BATCHES or not are_correlated(estimates):
                spread = float(estimates.std(ddof=1)) / sqrt(batches)
                return Interval(center, student_t(CONFIDENCE, batches - 1) * spread, batches)
        batches //= 2
    return Interval(center, inf, 0)


def _estimate(values: NDArray[np.float64], rank: float | None) -> float:
    if not len(values):
        return 0.0
    return float(values.mean()) if rank is None else float(np.percentile(values, rank))
