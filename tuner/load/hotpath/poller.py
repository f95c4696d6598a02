"""Waiting for sockets: epoll on Linux, poll elsewhere, with the precision of microseconds where something is due soon."""

from __future__ import annotations

import select

MAX_EVENTS = 4096
_SOON_NS = 3_000_000


class Poller:
    """A level-triggered poller whose mask bits are those of `connection.IN` and `connection.OUT`."""

    __slots__ = ("_epoll", "_poll", "modify", "register", "unregister")

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poll = select.poll()
        chosen = self._epoll if self._epoll is not None else self._poll
        self.register = chosen.register
        self.modify = chosen.modify
        self.unregister = chosen.unregister

    def ready(self) -> list[tuple[int, int]]:
        """What is ready now."""
        if self._epoll is not None:
            return self._epoll.poll(0, MAX_EVENTS)
        return self._poll.poll(0)

    def wait(self, timeout_ns: int, *, exact: bool) -> list[tuple[int, int]]:
        """What becomes ready within a time.

        epoll counts in whole milliseconds; an epoll descriptor inside `select` waits by the microsecond (`exact`), which a
        request that is due needs.
        """
        if timeout_ns <= 0:
            return self.ready()
        if self._epoll is None:
            return self._poll.poll(timeout_ns // 1_000_000 + 1)
        if not exact:
            return self._epoll.poll(timeout_ns / 1e9, MAX_EVENTS)
        if timeout_ns < _SOON_NS:
            if self._epoll.fileno() < 1024:
                select.select([self._epoll], [], [], timeout_ns / 1e9)
            return self._epoll.poll(0, MAX_EVENTS)
        return self._epoll.poll((timeout_ns - _SOON_NS // 2) // 1_000_000 / 1000, MAX_EVENTS)
