"""The kernel's receive time of a read, on the monotonic clock.

With SO_TIMESTAMPNS the kernel tells with every read when its last segment arrived, on CLOCK_REALTIME. Sessions use
CLOCK_MONOTONIC, so the distance between the two clocks is measured again and again; a stepped wall clock is noticed and counted.
"""

from __future__ import annotations

import socket
import sys
import time

SO_TIMESTAMPNS = 35
"""Value on every Linux architecture that runs an LLM client (asm-generic/socket.h); Python does not export it."""

ANCILLARY_BYTES = 64
STEP_NS = 1_000_000
"""A change of the clocks' distance beyond this is a step, not slewing."""

_SAMPLES = 3


def enable_kernel_time(sock: socket.socket) -> bool:
    """Ask for receive times on a socket; False where the system has none."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


class ClockOffset:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC, kept fresh.

    Attributes:
        offset_ns: The latest measurement.
        steps: How often the wall clock was found to have been set.
    """

    __slots__ = ("offset_ns", "steps")

    def __init__(self) -> None:
        self.offset_ns = measure_offset_ns()
        self.steps = 0

    def refresh(self) -> None:
        """Measure again; call at least ten times a second."""
        offset_ns = measure_offset_ns()
        if abs(offset_ns - self.offset_ns) > STEP_NS:
            self.steps += 1
        self.offset_ns = offset_ns


def measure_offset_ns() -> int:
    """The distance of the clocks, from the quickest of a few bracketed readings (so that a lost time slice does not count)."""
    best_width_ns, best_ns = 1 << 62, 0
    for _ in range(_SAMPLES):
        before_ns = time.monotonic_ns()
        wall_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        if after_ns - before_ns < best_width_ns:
            best_width_ns = after_ns - before_ns
            best_ns = wall_ns - (before_ns + after_ns) // 2
    return best_ns
