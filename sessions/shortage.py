"""What a session leaves out when the disk is nearly full: the most voluminous first, trials and their results never."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One more thing left out.

    Attributes:
        below_bytes: Free space under which it is.
        text: What is left out at this step, for a person.
    """

    below_bytes: int
    text: str


STEPS = (
    Step(1 << 62, ""),
    Step(48 * MIB, "the arrival times of tokens are no longer recorded"),
    Step(32 * MIB, "requests are no longer recorded; results still are"),
    Step(16 * MIB, "samples, requests and log lines are no longer recorded; trials and results still are"),
)
"""Step 0 leaves nothing out."""

NO_ARRIVALS, NO_REQUESTS, ONLY_TRIALS = 1, 2, 3

_ROOM_AGAIN = 2
"""A step is taken back when so many times its free space is there."""


def step_for(free_bytes: int, now: int) -> int:
    """The step at so much free space, coming from another step."""
    needed = max(place for place, step in enumerate(STEPS) if free_bytes < step.below_bytes)
    step = now
    while step > needed and free_bytes >= _ROOM_AGAIN * STEPS[step].below_bytes:
        step -= 1
    return max(step, needed)


def free_bytes(path: Path) -> int:
    """Free space on the disk of a file, for a user without privileges."""
    told = os.statvfs(path.parent)
    return told.f_bavail * told.f_frsize
