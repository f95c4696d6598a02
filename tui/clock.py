"""The one clock of the screen: live is a replay whose clock is pinned to the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

FOREVER_NS = 1 << 62
"""Later than anything recorded."""

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Replay speeds to choose from."""


@dataclass(frozen=True, slots=True)
class ViewClock:
    """Which moment of the session is looked at, as a value: every change gives a new clock.

    Attributes:
        pinned: Whether it follows the end of the session.
        playing: Whether it advances by itself (never while pinned).
        speed: Session seconds per second.
        anchor_ns: Session time at `since_ns`.
        since_ns: CLOCK_MONOTONIC when the anchor was set.
    """

    pinned: bool = True
    playing: bool = False
    speed: float = 1.0
    anchor_ns: int = 0
    since_ns: int = 0

    @classmethod
    def at_rest(cls) -> ViewClock:
        """At the end, not following: how a replay begins, so that the outcome is seen first and playing starts over."""
        return cls(pinned=False, anchor_ns=FOREVER_NS)

    def at(self, now_ns: int, end_ns: int) -> int:
        """Session time looked at when the monotonic clock says `now_ns` and the session ends at `end_ns`."""
        if self.pinned:
            return end_ns
        at_ns = self.anchor_ns
        if self.playing:
            at_ns += round((now_ns - self.since_ns) * self.speed)
        return max(0, min(at_ns, end_ns))

    def follow(self) -> ViewClock:
        """Pinned to the end."""
        return replace(self, pinned=True, playing=False)

    def seek(self, at_ns: int, now_ns: int) -> ViewClock:
        """At another moment; goes on playing if it was."""
        return replace(self, pinned=False, anchor_ns=at_ns, since_ns=now_ns)

    def toggle(self, now_ns: int, end_ns: int) -> ViewClock:
        """Paused if it moved, else playing; a clock that stands at the end starts over."""
        at_ns = self.at(now_ns, end_ns)
        if self.pinned:
            return replace(self, pinned=False, playing=False, anchor_ns=at_ns, since_ns=now_ns)
        if self.playing and at_ns < end_ns:
            return replace(self, playing=False, anchor_ns=at_ns, since_ns=now_ns)
        return replace(self, playing=True, anchor_ns=0 if at_ns >= end_ns else at_ns, since_ns=now_ns)

    def change_speed(self, steps: int, now_ns: int, end_ns: int) -> ViewClock:
        """Faster or slower by so many places of `SPEEDS`."""
        place = min(range(len(SPEEDS)), key=lambda index: abs(SPEEDS[index] - self.speed))
        speed = SPEEDS[max(0, min(place + steps, len(SPEEDS) - 1))]
        return replace(self, speed=speed, anchor_ns=self.at(now_ns, end_ns), since_ns=now_ns)
