"""When the prior is left aside: start after start, what it said brought nothing.

The likelihood alone leaves a wrong prior too late: where most knobs do nothing, almost any prior explains half of what is measured,
and the search goes on polishing those knobs where the prior wants it to stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STARTS_IN_VAIN: Final = 3
"""Results in a row without a gain after which the prior is not asked any more. With a right one the search is near the best by
then, and goes on from there as well without it."""

_GAIN: Final = 0.03
"""What counts as a gain, in utility: what noise alone brings does not."""


def is_left_aside(reach: NDArray[np.float64]) -> bool:
    """Whether so many results in a row brought no gain at any time so far.

    Args:
        reach: What each result of this session reaches, in their order; a column for each direction that is searched.
    """
    if not len(reach):
        return False
    best, in_vain = reach[0], 0
    for reached in reach[1:]:
        in_vain = 0 if (reached > best + _GAIN).any() else in_vain + 1
        best = np.maximum(best, reached)
        if in_vain == STARTS_IN_VAIN:
            return True
    return False
