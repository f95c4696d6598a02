"""What an operator wants of a running worker: pause, skip, stop. Set by commands and signals, obeyed by the job."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

T = TypeVar("T")


class Control:
    """The wishes in force.

    Attributes:
        stop: Set when the work is to end.
        interrupt: Set when the running level is to end now: by a stop, or because its trial is skipped.
        trial: Number of the trial that runs under it; None between trials.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.interrupt = asyncio.Event()
        self.trial: int | None = None
        self._running = asyncio.Event()
        self._running.set()
        self._skip = False
        self._children: list[Control] = []

    @contextmanager
    def child(self) -> Iterator[Control]:
        """The control of one of several trials side by side: pausing and ending reach all of them, a skip one."""
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

    def skip(self, trial: int | None = None) -> int | None:
        """Leave a running trial.

        Args:
            trial: Its number; None: the one that runs, of several the oldest that is not being left already.

        Returns:
            Its number; None when it does not run, or none does.
        """
        running = [each for each in (self, *self._children) if each.trial is not None and not each.skipping]
        chosen = next((each for each in running if trial in (None, each.trial)), None)
        if chosen is None:
            return None
        chosen._skip = True
        chosen.interrupt.set()
        return chosen.trial

    def end(self) -> None:
        """End the work; what runs is broken off and cleaned up."""
        self.stop.set()
        for each in (self, *self._children):
            each.interrupt.set()
        self._running.set()

    def begin_trial(self, number: int) -> None:
        """A trial begins: forget a skip that was meant for the one before."""
        self.trial, self._skip = number, False
        if not self.stop.is_set():
            self.interrupt.clear()

    def end_trial(self) -> None:
        """Nothing is left to skip: the trial has its result, or none will come."""
        self.trial = None

    async def gate(self) -> None:
        """Wait while paused."""
        await self._running.wait()

    async def unless_interrupted(self, work: Coroutine[Any, Any, T]) -> tuple[T] | tuple[()]:
        """The result of something that takes long, in a tuple; an empty one when the operator broke it off."""
        if self.interrupt.is_set():
            work.close()
            return ()
        waiting = asyncio.ensure_future(work)
        interrupted = asyncio.ensure_future(self.interrupt.wait())
        try:
            await asyncio.wait({waiting, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            return (await waiting,) if waiting.done() else ()
        finally:
            interrupted.cancel()
            waiting.cancel()
            await asyncio.wait({waiting})
