"""Which request goes next: free slots in the closed loop, the clock in the open loop, and the turns of conversations in both."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.load.hotpath.exchange import Item

NEVER = 1 << 62


class Schedule:
    """Requests that have not been sent yet.

    A slot belongs to a conversation from its first turn to its last, think times included; a request on its own is a conversation
    of one turn.

    Attributes:
        closed_loop: Whether free slots are filled at once.
        slots: Slots there are at most.
        ramp_ns: Time after the start in which they open up.
        used: Slots in use.
        start_ns: When the level started.
        no_more: Whether the owner has begun every conversation there will be.
        starved_ns: How long slots stood empty because the owner had sent no request.
    """

    __slots__ = (
        "_awaited", "_draining", "_due", "_early", "_last_starved_ns", "_order", "_ready", "closed_loop", "no_more",
        "ramp_ns", "slots", "start_ns", "starved_ns", "used",
    )  # fmt: skip

    def __init__(self, *, closed_loop: bool, slots: int, ramp_ns: int) -> None:
        self.closed_loop = closed_loop
        self.slots = slots
        self.ramp_ns = ramp_ns
        self.used = 0
        self.start_ns = NEVER
        self.no_more = False
        self._draining = False
        self.starved_ns = 0
        self._last_starved_ns = 0
        self._ready: deque[Item] = deque()
        self._due: list[tuple[int, int, Item]] = []
        self._order = 0
        self._early: dict[int, Item] = {}
        self._awaited: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._ready) + len(self._due) + len(self._early)

    def add(self, item: Item, now_ns: int) -> None:
        """Take a request from the owner."""
        if item.turn > 0:
            previous_end_ns = self._awaited.pop(item.session, None)
            if previous_end_ns is None:
                self._early[_turn_key(item.session, item.turn)] = item
            else:
                self._push(max(now_ns, previous_end_ns + item.think_ns), item)
        elif self.closed_loop or self.start_ns == NEVER:
            self._ready.append(item)
        else:
            item.scheduled_ns = self.start_ns + item.due_ns
            self._push(item.scheduled_ns, item)

    def start(self, start_ns: int) -> None:
        """The level starts at the given time: requests of the open loop that came before it are now due at times of their own."""
        self.start_ns = start_ns
        if not self.closed_loop:
            early, self._ready = self._ready, deque()
            for item in early:
                self.add(item, start_ns)

    def ended(self, item: Item, now_ns: int, *, whole: bool) -> None:
        """A request is over: its conversation goes on, or its slot is free. A failed turn ends the conversation."""
        if item.more and whole and not self._draining:
            following = self._early.pop(_turn_key(item.session, item.turn + 1), None)
            if following is None:
                self._awaited[item.session] = now_ns
            else:
                self._push(now_ns + following.think_ns, following)
            return
        self.used -= 1
        turn = item.turn + 1
        while self._early.pop(_turn_key(item.session, turn), None) is not None:
            turn += 1

    def abandon(self, session: int) -> None:
        """The owner will not continue a conversation that waits for its next turn: its slot is free."""
        if self._awaited.pop(session, None) is not None:
            self.used -= 1

    def next_item(self, now_ns: int) -> Item | None:
        """The next request that should leave now, if any; it is gone from the schedule then."""
        if self._due and self._due[0][0] <= now_ns:
            item = heappop(self._due)[2]
            self.used += item.turn == 0
            return item
        free = self.used < self._open_slots(now_ns)
        self._note_starvation(now_ns, starved=free and not self._ready and not self.no_more)
        if not free or not self._ready:
            return None
        self.used += 1
        return self._ready.popleft()

    def next_due_ns(self, now_ns: int) -> int:
        """When `next_item` should be asked again, at the latest."""
        due_ns = self._due[0][0] if self._due else NEVER
        if self._ready and self.ramp_ns and self.start_ns <= now_ns < self.start_ns + self.ramp_ns:
            step_ns = self.ramp_ns // max(self.slots, 1)
            due_ns = min(due_ns, now_ns + max(step_ns, 1_000_000))
        return due_ns

    def drain(self) -> None:
        """Forget everything that has not been sent."""
        self._ready.clear()
        self._due.clear()
        self._early.clear()
        self._awaited.clear()
        self.no_more = True
        self._draining = True

    def _open_slots(self, now_ns: int) -> int:
        if not self.closed_loop or now_ns < self.start_ns:
            return 0
        elapsed_ns = now_ns - self.start_ns
        if elapsed_ns >= self.ramp_ns:
            return self.slots
        return 1 + (self.slots - 1) * elapsed_ns // self.ramp_ns

    def _push(self, due_ns: int, item: Item) -> None:
        self._order += 1
        heappush(self._due, (due_ns, self._order, item))

    def _note_starvation(self, now_ns: int, *, starved: bool) -> None:
        if self._last_starved_ns:
            self.starved_ns += now_ns - self._last_starved_ns
        self._last_starved_ns = now_ns if starved else 0


def _turn_key(session: int, turn: int) -> int:
    return session << 16 | turn
