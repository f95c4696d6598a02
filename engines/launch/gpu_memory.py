"""Waits until a server's GPU memory is free again: the next one sizes its KV cache by what it finds free.

Drivers give memory back some time after the last process has gone; a process that was overlooked never does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reading = Mapping[str, float]
    """Bytes in use by GPU."""

TOLERANCE_BYTES = 512 * 2**20
"""Displays and other tenants move by some hundred MiB; a server holds gigabytes."""

LIMIT_S = 60.0
PERIOD_S = 0.5
STILL_READINGS = 10
"""So many readings without a fall mean that nothing more will be given back."""


@dataclass(slots=True)
class GpuMemory:
    """What the GPUs held before the first start, and the wait until they hold no more than that again.

    Methods block and belong into one thread at a time.

    Attributes:
        read: Reads the bytes in use of every GPU; empty where there is none to be seen.
        sleep: Waits so many seconds.
    """

    read: Callable[[], Reading]
    sleep: Callable[[float], None] = time.sleep
    _baseline: dict[str, float] = field(default_factory=dict)

    def remember(self) -> None:
        """Take what is in use now for the baseline, once."""
        if not self._baseline:
            self._baseline = dict(self.read())

    def settle(self, limit_s: float = LIMIT_S) -> str:
        """Wait until every GPU is back at the baseline, or nothing more is given back.

        Returns:
            What is held beyond the baseline, in words; empty when nothing is.
        """
        before, still = float("inf"), 0
        deadline = time.monotonic() + limit_s
        while excess := self._excess():
            held = sum(excess.values())
            still = still + 1 if held > before - TOLERANCE_BYTES / 8 else 0
            if still >= STILL_READINGS or time.monotonic() > deadline:
                return "; ".join(f"GPU {name} holds {size / 2**30:.1f} GiB more" for name, size in excess.items())
            before = min(before, held)
            self.sleep(PERIOD_S)
        return ""

    def _excess(self) -> dict[str, float]:
        """Bytes beyond the baseline by GPU; one that cannot be read counts as free."""
        now = self.read()
        beyond = {name: now[name] - base for name, base in self._baseline.items() if name in now}
        return {name: size for name, size in beyond.items() if size > TOLERANCE_BYTES}
