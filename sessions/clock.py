"""Session time: nanoseconds since the session began, from a clock that never steps.

Every time in a session file is session time. It advances with CLOCK_MONOTONIC, so a stepped wall clock moves
nothing; the UTC instant of its origin is kept once, for display.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


def covered_ns(spans: Iterable[tuple[int, int]]) -> int:
    """Nanoseconds that lie in any of some spans, from begin to end: where several overlap they count once."""
    covered = reached = 0
    for begin, end in sorted(spans):
        covered += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return covered


@dataclass(frozen=True, slots=True)
class SessionClock:
    """Turns clocks of this host into session time.

    Attributes:
        origin_utc_ns: UTC time of session time 0, in ns since the epoch.
        base_monotonic_ns: CLOCK_MONOTONIC at session time 0; negative when the host has rebooted since.
    """

    origin_utc_ns: int
    base_monotonic_ns: int

    @classmethod
    def start(cls) -> SessionClock:
        """A clock whose session time 0 is now."""
        return cls(time.time_ns(), time.monotonic_ns())

    @classmethod
    def resume(cls, origin_utc_ns: int, last_ns: int, now_ns: int) -> SessionClock:
        """A clock that goes on in a session begun earlier, never before what is already recorded.

        Args:
            origin_utc_ns: UTC time of session time 0.
            last_ns: Latest session time in the file.
            now_ns: Session time now by the wall clock, which may have been set back since.
        """
        return cls(origin_utc_ns, time.monotonic_ns() - max(now_ns, last_ns + 1))

    def now(self) -> int:
        """Session time now, in ns."""
        return time.monotonic_ns() - self.base_monotonic_ns

    def from_monotonic(self, monotonic_ns: int) -> int:
        """Session time of a CLOCK_MONOTONIC reading of this host (any process), in ns."""
        return monotonic_ns - self.base_monotonic_ns

    def to_utc_ns(self, t_ns: int) -> int:
        """UTC time of a session time, in ns since the epoch."""
        return self.origin_utc_ns + t_ns
