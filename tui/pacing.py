"""Lets the next frame wait until the terminal has answered for the last one, so that keys stay quick on a slow link.

Textual never drops a frame: over 20 KB/s what is queued delays every key by seconds. After each frame a harmless query is
sent, the one that Textual itself sends at start (`CSI ? 2026 $ p`, DECRQM for synchronised output). A terminal answers in order,
so the answer says that the frame has arrived, through every buffer between. Textual turns the answer into
`TerminalSupportsSynchronizedOutput`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

QUERY = "\x1b[?2026$p"
ANSWER_LIMIT_S = 30.0
"""A terminal that has answered before and is silent for so long is asked no more."""


class Timer(Protocol):
    """Something that can be called off."""

    def stop(self) -> None:
        """Call it off."""
        ...


class Pacer:
    """Decides when the next frame may be built.

    It is idle until the terminal has answered once by itself (Textual's own query at start): a terminal that does not know the
    query is never waited for.

    Args:
        write: Sends text to the terminal.
        ready: Called when the next frame may be built.
        later: Runs a function after so many seconds.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        ready: Callable[[], None],
        later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self._write = write
        self._ready = ready
        self._later = later
        self._answers = False
        self._timer: Timer | None = None

    @property
    def active(self) -> bool:
        """Whether frames wait for answers."""
        return self._answers

    def painted(self) -> None:
        """A frame was handed to the terminal."""
        if not self._answers:
            self._ready()
        elif self._timer is None:
            self._timer = self._later(ANSWER_LIMIT_S, self._silent)
            self._write(QUERY)

    def answered(self) -> None:
        """The terminal has answered a query, ours or Textual's."""
        self._answers = True
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
            self._ready()

    def _silent(self) -> None:
        self._answers = False
        self._timer = None
        self._ready()
