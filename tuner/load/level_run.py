"""The course of one level: open connections, start, feed, watch, close, drain.

Runs in a thread of its own beside the caller's event loop: the generator processes send and read, this thread parses
what they read.
"""

from __future__ import annotations

import select
import time
from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from sessions.clock import NS_PER_S
from sessions.metrics import meets, request_values, slos_of_requests
from sessions.requests import RequestStatus, RequestTable
from tuner.load.collector import Collector
from tuner.load.errors import GeneratorLost, Unreachable
from tuner.load.feed import Feed
from tuner.load.hotpath import frames
from tuner.load.judging import Course, judge_level
from tuner.load.live import LoadProgress
from tuner.load.network import level_settings
from tuner.load.precision import read_precision
from tuner.load.rounds import round_ends, whole_rounds

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from tuner.load.collector import Finished
    from tuner.load.job import LevelJob
    from tuner.load.live import Phase
    from tuner.load.process import OwnersEnd
    from tuner.load.result import LevelResult, StoppedBy

POLL_S = 0.05
PROGRESS_NS = 300_000_000
ROWS_NS = 500_000_000
PRECISION_NS = 500_000_000
START_DELAY_NS = 5_000_000
CLOSE_TIMEOUT_S = 10.0
FAILING_S = 1.0
"""A level in which nothing has gone well for this long, and many requests have failed, is given up."""

STUCK_S = 2.0
"""A request that was unanswered when the level ended has failed if it is older than this and twice the slowest good one."""


class LevelRun:
    """One level on one or more generator processes."""

    def __init__(
        self,
        job: LevelJob,
        processes: Sequence[OwnersEnd],
        on_requests: Callable[[RequestTable], None],
        on_progress: Callable[[LoadProgress], None],
        stopped: threading.Event,
    ) -> None:
        """Prepare the requests.

        Raises:
            BadWorkload: If workload or endpoint cannot be used.
        """
        self._job = job
        self._processes = list(processes)
        self._on_requests = on_requests
        self._on_progress = on_progress
        self._stopped = stopped
        self._collector = Collector(
            job.clock,
            keep_text=job.workload.turns.history == "server",
            end_mark_needed=job.endpoint.api != "triton",
        )
        self._feed = Feed(job, self._processes, self._collector)
        self._slos = slos_of_requests(job.slos)
        self._tables: list[RequestTable] = []
        self._ends_ns: list[int] = []
        self._last_good_ns = 0
        self._failed_in_a_row = 0
        self._phase: Phase = "warm-up"
        self._start_ns = 0
        self._window_start_ns = 0
        self._window_end_ns = 0
        self._precision: float = nan
        self._opened: list[tuple[int, int, str]] = []
        self._closed = 0
        self._next_progress_ns = self._next_rows_ns = self._next_precision_ns = 0

    def run(self) -> LevelResult:
        """Run the level to its end.

        Raises:
            Unreachable: If not one connection could be opened.
            GeneratorLost: If a generator process ended.
        """
        poller = select.poll()
        by_fd = {process.fileno(): process for process in self._processes}
        for fd in by_fd:
            poller.register(fd, select.POLLIN)

        def step() -> None:
            for fd, _ in poller.poll(POLL_S * 1000):
                self._take(by_fd[fd])
            self._feed.top_up(time.monotonic_ns() - self._start_ns if self._start_ns else 0)

        self._open(step)
        self._start()
        stopped_by: StoppedBy | None = None
        while stopped_by is None:
            step()
            now_ns = time.monotonic_ns()
            self._report(now_ns)
            stopped_by = self._advance(now_ns)
        self._drain(step, stopped_by)
        return self._result(stopped_by)

    def _open(self, step: Callable[[], None]) -> None:
        """Configure the processes, prepare the first requests and open connections, all before the clock starts."""
        for process, settings in zip(self._processes, level_settings(self._job, len(self._processes)), strict=True):
            process.send(frames.CONFIGURE, 0, settings.to_bytes())
            process.send(frames.OPEN, settings.concurrency if settings.closed_loop else settings.reserve)
        self._feed.top_up(0)
        deadline_s = time.monotonic() + self._job.limits.connect_timeout_s * 3
        while len(self._opened) < len(self._processes):
            step()
            if time.monotonic() > deadline_s:
                raise GeneratorLost("the generator process did not open its connections in time")
        if not sum(opened for opened, _, _ in self._opened):
            why = next((text for _, _, text in self._opened if text), "no connection")
            raise Unreachable(f"cannot connect to {self._job.endpoint.url}: {why}")

    def _start(self) -> None:
        self._start_ns = time.monotonic_ns() + START_DELAY_NS
        for process in self._processes:
            process.send(frames.START, 0, str(self._start_ns).encode())
        self._window_start_ns = self._start_ns
        self._last_good_ns = self._start_ns
        self._next_precision_ns = self._start_ns

    def _take(self, process: OwnersEnd) -> None:
        for kind, number, payload in process.receive():
            if kind == frames.OPENED:
                opened, failed = frames.OPENED_FIELDS.unpack_from(payload)
                text = payload[frames.OPENED_FIELDS.size :].decode("utf-8", "replace")
                self._opened.append((opened, failed, text))
            elif kind == frames.CLOSED:
                self._closed += 1
            elif kind != frames.BEAT:
                if kind == frames.BEGIN:
                    self._feed.begun(number)
                finished = self._collector.take(kind, number, payload)
                if finished is not None:
                    self._on_finished(finished)

    def _on_finished(self, finished: Finished) -> None:
        self._ends_ns.append(finished.end_ns)
        if finished.status == RequestStatus.OK:
            self._last_good_ns = max(self._last_good_ns, finished.end_ns)
            self._failed_in_a_row = 0
        elif finished.status != RequestStatus.CANCELLED:
            self._failed_in_a_row += 1
        self._feed.ended(finished)

    def _advance(self, now_ns: int) -> StoppedBy | None:
        """Open the window when the warm-up is over, and say when and why it closes."""
        stop = self._job.stop
        if self._phase == "warm-up":
            self._try_to_open_window(now_ns)
        if self._stopped.is_set():
            self._window_end_ns = now_ns
            return "stopped"
        if self._failed_in_a_row >= self._failures_allowed() and now_ns - self._last_good_ns > FAILING_S * NS_PER_S:
            self._window_end_ns = now_ns
            return "failures"
        if self._phase == "warm-up":
            return None
        if stop.max_requests is not None and len(self._ends_ns) >= stop.max_requests:
            inside = sorted(end_ns for end_ns in self._ends_ns if end_ns > self._window_start_ns)
            if len(inside) >= stop.max_requests:
                self._window_end_ns = inside[stop.max_requests - 1]
                return "requests"
        if stop.max_s is not None and now_ns >= self._window_start_ns + stop.max_s * NS_PER_S:
            self._window_end_ns = self._window_start_ns + int(stop.max_s * NS_PER_S)
            return "time"
        if stop.precision is not None and now_ns >= self._next_precision_ns and self._precise_enough(now_ns):
            self._window_end_ns = now_ns
            return "precision"
        return None

    def _try_to_open_window(self, now_ns: int) -> None:
        stop = self._job.stop
        warmup_s = max(stop.warmup_s, self._job.workload.arrivals.ramp_s)
        if len(self._ends_ns) < stop.warmup_requests or now_ns < self._start_ns + warmup_s * NS_PER_S:
            return
        self._window_start_ns = self._start_ns + int(warmup_s * NS_PER_S)
        if stop.warmup_requests:
            self._window_start_ns = max(self._window_start_ns, sorted(self._ends_ns)[stop.warmup_requests - 1])
        self._phase = "measure"
        if stop.max_requests is not None and warmup_s:
            before = sum(end_ns <= self._window_start_ns for end_ns in self._ends_ns)
            self._feed.limit = before + stop.max_requests

    def _precise_enough(self, now_ns: int) -> bool:
        """Look at the interval of the stop rule's metric; the steady part becomes the window once it is found."""
        stop, clock = self._job.stop, self._job.clock
        self._next_precision_ns = now_ns + PRECISION_NS
        self._deliver_rows()
        self._tables = [RequestTable.concat(self._tables)]
        reading = read_precision(
            stop,
            self._tables[0],
            self._collector.live.bucket_tokens,
            clock.base_monotonic_ns,
            clock.from_monotonic(self._window_start_ns),
            clock.from_monotonic(now_ns),
            None if self._slots is None else round_ends(self._ends_ns, self._slots) - clock.base_monotonic_ns,
        )
        self._precision = reading.interval.relative
        if reading.steady_ns is None or stop.precision is None or self._precision > stop.precision:
            return False
        steady_ns = reading.steady_ns + clock.base_monotonic_ns
        inside = sum(end_ns > steady_ns for end_ns in self._ends_ns)
        if inside < stop.min_requests or now_ns - steady_ns < stop.min_s * NS_PER_S:
            return False
        self._window_start_ns = steady_ns
        return True

    @property
    def _slots(self) -> int | None:
        """Requests in flight in a closed loop; None in an open one."""
        return int(self._job.level.value) if self._job.level.kind == "concurrency" else None

    def _failures_allowed(self) -> int:
        return max(20, 2 * (self._slots or 0))

    def _drain(self, step: Callable[[], None], stopped_by: StoppedBy) -> None:
        """Let what is in flight finish, within limits, cut off the rest, and collect the last of it."""
        self._phase = "drain"
        self._feed.stop()
        for process in self._processes:
            process.send(frames.DRAIN)
        patience_s = 0.0 if stopped_by in ("stopped", "failures") else self._job.limits.drain_timeout_s
        deadline_s = time.monotonic() + patience_s
        while self._collector.in_flight and time.monotonic() < deadline_s and not self._stopped.is_set():
            step()
            self._report(time.monotonic_ns())
        for process in self._processes:
            process.send(frames.CLOSE)
        deadline_s = time.monotonic() + CLOSE_TIMEOUT_S
        while self._closed < len(self._processes):
            step()
            if time.monotonic() > deadline_s:
                raise GeneratorLost("the generator process did not end its level in time")
        if self._slots is not None and stopped_by in ("time", "precision"):
            rounds_ns = round_ends(self._ends_ns, self._slots)
            window = whole_rounds(rounds_ns, self._window_start_ns, self._window_end_ns)
            self._window_start_ns, self._window_end_ns = window
        self._tables.append(self._fail_stuck(self._collector.drain_rows()))
        if len(self._tables[-1]):
            self._on_requests(self._tables[-1])
        self._report(time.monotonic_ns(), final=True)

    def _fail_stuck(self, last: RequestTable) -> RequestTable:
        """What the server had left unanswered for too long when the level ended has failed; it was not just cut off."""
        window_end_ns = self._job.clock.from_monotonic(self._window_end_ns)
        table = RequestTable.concat([*self._tables, last])
        good = (table.status == RequestStatus.OK) & (table.end_ns <= window_end_ns)
        slowest_ns = int((table.end_ns - table.sent_ns)[good].max()) if good.any() else 0
        allowed_ns = max(2 * slowest_ns, int(STUCK_S * NS_PER_S))
        cut_off = (last.status == RequestStatus.CANCELLED) & (last.end_ns > window_end_ns)
        stuck = cut_off & (last.chunks == 0) & (window_end_ns - last.sent_ns > allowed_ns)
        if not stuck.any():
            return last
        status = np.where(stuck, np.int8(RequestStatus.TIMEOUT), last.status).astype(np.int8)
        return replace(last, status=status, end_ns=np.where(stuck, window_end_ns, last.end_ns))

    def _report(self, now_ns: int, *, final: bool = False) -> None:
        if now_ns >= self._next_rows_ns:
            self._next_rows_ns = now_ns + ROWS_NS
            self._deliver_rows()
        if now_ns >= self._next_progress_ns or final:
            self._next_progress_ns = now_ns + PROGRESS_NS
            self._on_progress(self._progress(now_ns))

    def _deliver_rows(self) -> None:
        table = self._collector.drain_rows()
        if len(table):
            self._tables.append(table)
            self._on_requests(table)
            self._judge_live(table)

    def _judge_live(self, table: RequestTable) -> None:
        """Tell the sliding window which of the requests that have just ended met the SLOs."""
        if not self._slos:
            return
        ended = table.select(table.status != RequestStatus.CANCELLED)
        met = (ended.status == RequestStatus.OK) & meets(request_values(ended), self._slos)
        ends_ns = ended.end_ns + self._job.clock.base_monotonic_ns
        self._collector.live.note_judged(ends_ns.tolist(), met.tolist())

    def _progress(self, now_ns: int) -> LoadProgress:
        level, live = self._job.level, self._collector.live
        return LoadProgress(
            t_ns=self._job.clock.from_monotonic(now_ns),
            phase=self._phase,
            relative_half_width=self._precision,
            concurrency=level.value if level.kind == "concurrency" else nan,
            rate=level.value if level.kind == "rate" else nan,
            in_flight=self._collector.in_flight,
            done_total=live.done_total,
            failed_total=live.failed_total,
            output_tokens_total=live.output_tokens_total,
            input_tokens_total=live.input_tokens_total,
            **live.figures(self._start_ns, now_ns),
        )

    def _result(self, stopped_by: StoppedBy) -> LevelResult:
        clock = self._job.clock
        course = Course(
            table=RequestTable.concat(self._tables),
            window_start_ns=clock.from_monotonic(self._window_start_ns),
            window_end_ns=clock.from_monotonic(self._window_end_ns),
            elapsed_ns=max(self._window_end_ns - self._start_ns, 1),
            stopped_by=stopped_by,
            precision=self._precision,
            inexact_counts=self._collector.inexact_counts,
            uncounted=self._collector.uncounted,
            counts=[process.counts for process in self._processes],
        )
        return judge_level(self._job, course)
