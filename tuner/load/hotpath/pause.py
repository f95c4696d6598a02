"""How long the loop may sleep so that what arrives meanwhile is read in one go.

Waking costs more than reading: at 64 streams nearly every token wakes the process by itself. The kernel stamps each
segment when it arrives, so looking a little later costs no token its time, as long as no stream gets a second event
before the first is read. The pause is kept far below anything that is measured, and is given up where it does harm.
"""

from __future__ import annotations

from typing import Any

from tuner.load.hotpath.frames import TOGETHER_NS

MAX_PAUSE_NS = 2_000_000
MIN_PAUSE_NS = 100_000
"""A shorter one is not worth a system call."""

GAP_PARTS = 8
"""The pause is at most this part of the mean time between two reads of a stream,"""

FIRST_PARTS = 100
"""this part of the mean time to the first byte of a body, so that it is no lag worth speaking of,"""

REQUEST_PARTS = 1000
"""and this part of the mean time of a request: a closed loop sends its next request that much later."""

HARM_PARTS = 128
"""Reads into which the pause brought several events, beyond one a request, may be one of so many reads."""


class Pause:
    """The pause, adapted tick by tick.

    Attributes:
        ns: How long to sleep before looking, 0 for not at all.
    """

    __slots__ = ("_cap_ns", "_first_ns", "_request_ns", "ns")

    def __init__(self) -> None:
        self.ns = 0
        self._cap_ns = MAX_PAUSE_NS
        self._first_ns = 0
        self._request_ns = 0

    def note_first(self, elapsed_ns: int) -> None:
        """The first byte of a body came so long after its request."""
        self._first_ns = _follow(self._first_ns, elapsed_ns)

    def note_end(self, elapsed_ns: int) -> None:
        """A request took so long."""
        self._request_ns = _follow(self._request_ns, elapsed_ns)

    def piled(self, reads: list[Any]) -> int:
        """How many reads of a quick way hold several events far apart because of the pause, and not of a lag."""
        count, before_ns = 0, 0
        for data, _, user_ns, empty_ns in zip(reads[::4], reads[1::4], reads[2::4], reads[3::4], strict=True):
            spread_ns = user_ns - max(empty_ns, before_ns)
            before_ns = user_ns
            count += TOGETHER_NS < spread_ns <= self.ns + TOGETHER_NS and data.count(b"\n\n\r\n") > 1
        return count

    def adapt(self, tick_ns: int, in_flight: int, reads: int, *, piled: int, ended: int, age_ns: int) -> None:
        """Choose the pause for the next tick.

        Args:
            tick_ns: Length of the tick that is over.
            in_flight: Requests under way.
            reads: Reads in it.
            piled: Those that `piled` counted.
            ended: Requests that ended in it: each may end with a few events at once.
            age_ns: Mean age of the requests under way; stands for their length until one has ended.
        """
        if piled - ended > 1 + reads // HARM_PARTS:
            self._cap_ns //= 2
        pause_ns = min(
            self._cap_ns,
            tick_ns * in_flight // (reads * GAP_PARTS) if reads else 0,
            self._first_ns // FIRST_PARTS,
            (self._request_ns or age_ns) // REQUEST_PARTS,
        )
        # Where less than one more event is to be expected meanwhile, it only adds a system call.
        self.ns = pause_ns if pause_ns >= MIN_PAUSE_NS and pause_ns * reads >= tick_ns else 0


def _follow(mean_ns: int, value_ns: int) -> int:
    """A mean that forgets: falls at once, rises slowly, since a pause too long is worse than one too short."""
    if not mean_ns or value_ns < mean_ns:
        return value_ns if not mean_ns else (mean_ns + value_ns) // 2
    return mean_ns + (value_ns - mean_ns) // 16
