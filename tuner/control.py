"""What an operator wants of a running worker: pause, skip, stop. Set by commands and signals, obeyed by the job."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Control:
    """The wishes in force.

    Attributes:
        stop: Set when the work is to end.
        interrupt: Set when the running level is to end now: by a stop, or because its trial is skipped.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.interrupt = asyncio.Event()
        self._running = asyncio.Event()
        self._running.set()
        self._skip = False
        self._children: list[Control] = []

    @contextmanager
    def child(self) -> Iterator[Control]:
        """The control of one of several trials side by side: pausing and ending reach it, a skip reaches the oldest of them."""
        child = Control()
        child.stop, child._running = self.stop, self._running
        if self.stop.is_set():
            child.interrupt.set()
        self._children.append(child)
        try:
            yield child
        finally:
            self._children.remove(child)

    @property
    def paused(self) -> bool:
        """Whether the next step waits for `resume`."""
        return not self._running.is_set()

    @property
    def skipping(self) -> bool:
        """Whether the running trial is to be left."""
        return self._skip

    def pause(self) -> None:
        """Let the running level end and begin nothing new."""
        self._running.clear()

    def resume(self) -> None:
        """Go on."""
        self._running.set()

    def skip(self) -> None:
        """Leave the running trial."""
        if self._children:
            next((child for child in self._children if not child.skipping), self._children[0]).skip()
            return
        self._skip = True
        self.interrupt.set()

    def end(self) -> None:
        """End the work; what runs is broken off and cleaned up."""
        self.stop.set()
        for each in (self, *self._children):
            each.interrupt.set()
        self._running.set()

    def begin_trial(self) -> None:
        """Forget a skip that was meant for the trial before."""
        self._skip = False
        if not self.stop.is_set():
            self.interrupt.clear()

    async def gate(self) -> None:
        """Wait while paused."""
        await self._running.wait()
