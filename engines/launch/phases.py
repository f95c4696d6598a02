"""How long each phase of a server's start took, told from the lines of its log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Sequence

CONTAINER = "container"
"""From the start to the first line of the log: the runtime finds a place for the container, and makes it."""

PROCESS = "process"
"""The same without a container: the program is loaded."""


@dataclass(frozen=True, slots=True)
class PhaseRule:
    """A phase of a start.

    Attributes:
        name: Its name: `prepare`, `download`, `load`, `warm-up`.
        pattern: Found in the line that begins it.
    """

    name: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase that is over.

    Attributes:
        name: As in `PhaseRule`, or `container` or `process`.
        duration_s: How long it took.
    """

    name: str
    duration_s: float


class StartupPhases:
    """Listens to the log of one start. A phase begins once, and never before one that comes later in the table.

    Lines that come late (a download beside the load) do not turn the time back.
    """

    def __init__(
        self, rules: Sequence[PhaseRule], first: str = PROCESS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin now.

        Args:
            rules: The phases in their order.
            first: Name of what passes before the first line of the log.
            clock: Seconds.
        """
        self._rules = rules
        self._clock = clock
        self._began: list[tuple[str, float]] = [(first, clock())]
        self._next = 0
        self._ready_s: float | None = None

    def line(self, text: str) -> None:
        """Take a line of the log."""
        for number in range(self._next, len(self._rules)):
            if self._rules[number].pattern.search(text):
                self._began.append((self._rules[number].name, self._clock()))
                self._next = number + 1
                return

    def ready(self) -> None:
        """Tell that the server is ready."""
        self._ready_s = self._clock()

    def phases(self) -> tuple[Phase, ...]:
        """The phases in their order; the last one lasts until the server is ready, and is left out before."""
        ends = [began_s for _, began_s in self._began[1:]] + ([] if self._ready_s is None else [self._ready_s])
        return tuple(Phase(name, end_s - began_s) for (name, began_s), end_s in zip(self._began, ends, strict=False))
