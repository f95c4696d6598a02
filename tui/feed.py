"""The thread that reads the session and posts snapshots; the one tick of the screen."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from sessions.errors import NotASession, SessionError
from sessions.reader import SessionReader
from sessions.text import clean_line
from tui.building import SnapshotBuilder
from tui.harmless import READ_ERRORS
from tui.messages import FeedFailed, SnapshotReady

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from textual.message import Message

    from tui.building import ViewRequest

GONE = "the session file is gone; what is shown is the last that was read"

RETRY_S = 1.0
"""How long to wait before a file that cannot be read is tried again."""


class Feed(threading.Thread):
    """Reads one session at a steady rate until it is stopped.

    A snapshot is built when the file has changed, when the view asks for something else, or while the clock plays; at most
    `fps` times a second, and never before the one before it was drawn (`drawn`).
    """

    def __init__(self, path: Path, request: ViewRequest, post: Callable[[Message], object], fps: float) -> None:
        super().__init__(name="trtune-feed", daemon=True)
        self.path = path
        self._post = post
        self._period_s = 1.0 / fps
        self._request = request
        self._wake = threading.Event()
        self._drawn = threading.Event()
        self._drawn.set()
        self._ended = threading.Event()

    def ask(self, request: ViewRequest) -> None:
        """Show something else, at once."""
        self._request = request
        self._wake.set()

    def set_fps(self, fps: float) -> None:
        """Change the highest rate of snapshots."""
        self._period_s = 1.0 / fps

    def drawn(self) -> None:
        """The last snapshot is on the terminal: the next may be built."""
        self._drawn.set()

    def stop(self) -> None:
        """End the thread after the step it is in."""
        self._ended.set()
        self._wake.set()
        self._drawn.set()

    def run(self) -> None:
        """Read until stopped; a file that cannot be read is reported and tried again."""
        failing_since_s: float | None = None
        while not self._ended.is_set():
            try:
                with SessionReader(self.path) as reader:
                    builder = SnapshotBuilder(reader)
                    failing_since_s = None
                    self._follow(builder)
            except READ_ERRORS as error:
                failing_since_s = failing_since_s or time.monotonic()
                self._post(FeedFailed(self._in_words(error), time.monotonic() - failing_since_s))
                self._ended.wait(RETRY_S)

    def _in_words(self, error: Exception) -> str:
        if not self.path.is_file():
            return clean_line(f"{self.path.name}: {GONE}")
        told = str(error).replace(str(self.path), self.path.name)
        if not isinstance(error, SessionError):
            told = f"{self.path.name} holds a value of the wrong kind ({told})"
        return clean_line(told)

    def _follow(self, builder: SnapshotBuilder) -> None:
        shown: ViewRequest | None = None
        while not self._ended.is_set():
            self._wake.clear()
            started_s = time.monotonic()
            request = self._request
            if not self.path.is_file():
                raise NotASession(f"{self.path}: {GONE}")
            if request is not shown or request.clock.playing or builder.due():
                snapshot = builder.build(request, now_ns=time.monotonic_ns(), now_utc_ns=time.time_ns())
                self._drawn.clear()
                self._post(SnapshotReady(snapshot))
                shown = request
            self._wake.wait(max(0.0, self._period_s - (time.monotonic() - started_s)))
            self._drawn.wait()
