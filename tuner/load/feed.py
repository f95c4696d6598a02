"""Keeps the generator processes supplied with requests, neither starved nor drowned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.requests import RequestStatus
from tuner.load.hotpath import frames
from tuner.load.plan import NO_SESSION, PlannedRequest, RequestPlan
from tuner.load.process import pack_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.load.collector import Collector, Finished
    from tuner.load.job import LevelJob
    from tuner.load.process import OwnersEnd

AHEAD_REQUESTS = 256
AHEAD_BYTES = 16 * 1024 * 1024
AHEAD_NS = 2_000_000_000
"""How far ahead requests are handed over: in number and bytes (closed loop), in time (open loop)."""

_MAX_TURNS = 10_000


class Feed:
    """Hands planned requests to the processes.

    Attributes:
        limit: Requests of the level, all turns counted; None is without end.
    """

    def __init__(self, job: LevelJob, processes: Sequence[OwnersEnd], collector: Collector) -> None:
        """Prepare the plan.

        Raises:
            BadWorkload: If workload or endpoint cannot be used.
        """
        self._plan = RequestPlan(job.workload, job.endpoint, job.level)
        self._processes = processes
        self._collector = collector
        self._closed_loop = job.level.kind == "concurrency"
        self._slots = int(job.level.value) if self._closed_loop else 0
        self._server_history = job.workload.turns.history == "server"
        self._unsent: dict[int, int] = {}
        self._unsent_bytes = 0
        self._homes: dict[int, OwnersEnd] = {}
        self._next_process = 0
        self._drafted: list[PlannedRequest] = []
        self._given_back = 0
        self._stopped = False
        self._told_the_end = False
        stop = job.stop
        timed = stop.warmup_s > 0 or job.workload.arrivals.ramp_s > 0
        self.limit = None if stop.max_requests is None or timed else stop.warmup_requests + stop.max_requests

    def top_up(self, elapsed_ns: int) -> None:
        """Hand over as much as is wanted now; `elapsed_ns` is the time since the level's start."""
        while not self._stopped and self._wanted(elapsed_ns):
            turns = self._drafted or self._plan.next_conversation(_MAX_TURNS if self.limit is None else self._left())
            self._drafted = []
            if not self._closed_loop and turns[0].due_ns > elapsed_ns + AHEAD_NS:
                self._drafted = turns
                return
            self._hand_over(turns)
        if not self._told_the_end and self.limit is not None and self._left() <= 0:
            self._told_the_end = True
            for process in self._processes:
                process.send(frames.NO_MORE)

    def begun(self, index: int) -> None:
        """A request has been sent."""
        self._unsent_bytes -= self._unsent.pop(index, 0)

    def ended(self, finished: Finished) -> None:
        """A request is over: go on with its conversation, or give up what was to follow."""
        planned = finished.planned
        if planned.session == NO_SESSION:
            return
        if finished.status == RequestStatus.OK:
            if planned.more and self._server_history:
                self._continue(finished)
        elif planned.more:
            self._give_up(planned)
        if not planned.more:
            self._homes.pop(planned.session, None)

    def stop(self) -> None:
        """Hand over nothing more."""
        self._stopped = True

    def _wanted(self, elapsed_ns: int) -> bool:
        if self.limit is not None and not self._drafted and self._left() <= 0:
            return False
        if not self._closed_loop:
            return not self._drafted or self._drafted[0].due_ns <= elapsed_ns + AHEAD_NS
        waiting = len(self._unsent)
        enough = self._unsent_bytes > AHEAD_BYTES and waiting > len(self._processes)
        return waiting < AHEAD_REQUESTS + 2 * self._slots and not enough

    def _left(self) -> int:
        return 0 if self.limit is None else self.limit - self._plan.requests + self._given_back

    def _hand_over(self, turns: list[PlannedRequest]) -> None:
        process = self._processes[self._next_process]
        self._next_process = (self._next_process + 1) % len(self._processes)
        if turns[0].session != NO_SESSION:
            self._homes[turns[0].session] = process
        self._unsent[turns[0].index] = len(turns[0].payload)
        self._unsent_bytes += len(turns[0].payload)
        for turn in turns:
            self._collector.expect(turn)
        process.send_packed(b"".join(pack_request(turn) for turn in turns if turn.payload))

    def _continue(self, finished: Finished) -> None:
        session = finished.planned.session
        following = self._plan.continue_conversation(session, finished.text, finished.osl_tokens)
        if following is not None and not self._stopped:
            self._collector.expect(following)
            self._homes[session].send_packed(pack_request(following))

    def _give_up(self, planned: PlannedRequest) -> None:
        """A failed turn ends its conversation; the turns it had left go to others."""
        self._plan.abandon(planned.session)
        self._given_back += planned.later_turns
        self._told_the_end = False
        for index in range(planned.index + 1, planned.index + 1 + planned.later_turns):
            self._collector.forget(index)
        home = self._homes.pop(planned.session, None)
        if home is not None:
            home.send(frames.ABANDON, planned.session)
