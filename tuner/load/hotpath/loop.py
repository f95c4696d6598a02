"""The generator's loop: poll, read, send, and hand what was read to the owner.

Every read is stamped three times: when the kernel got its last segment, when we read it, and when the socket was last
known to be empty. The third bounds how far apart several events of one read can have arrived: what arrived while we
were busy elsewhere or paused is doubtful, what arrived while we waited is not, since the first segment would have woken us.
"""

from __future__ import annotations

import gc
import os
from time import monotonic_ns, process_time_ns, sleep

from tuner.load.hotpath import frames
from tuner.load.hotpath.connection import IN, READING, SMALL_READ_BYTES
from tuner.load.hotpath.exchange import Item
from tuner.load.hotpath.link import Link, OwnerGone
from tuner.load.hotpath.poller import Poller
from tuner.load.hotpath.settings import Settings
from tuner.load.hotpath.stamps import ANCILLARY_BYTES, ClockOffset
from tuner.load.hotpath.traffic import Traffic

TICK_NS = 50_000_000
"""How often clocks and limits are looked at."""

BEAT_NS = 200_000_000
"""How often the owner gets the counters."""

FLUSH_NS = 25_000_000
FLUSH_BYTES = 64 * 1024
"""Messages to the owner wait for so much time or so many bytes, to be written together; urgent ones do not."""

IDLE_NS = 1_000_000_000

MAX_QUICK_VALUES = 4 * 32
"""What the quick way of one stream keeps at most between two ticks: four values a read."""

SHORTEST_SLEEP_NS = 50_000
"""The kernel's timer slack: a shorter sleep takes as long."""


class Runner:
    """Runs levels until the owner goes away."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._poller = Poller()
        self._poller.register(link.fileno(), IN)
        self._clock = ClockOffset()
        self._owner_pid = os.getppid()
        self._poll_ns = monotonic_ns()
        self._begin_level(Settings())

    def run(self) -> None:
        """Loop until the owner is gone."""
        try:
            while True:
                self.turn()
        except OwnerGone:
            for connection in self._traffic.connections.values():
                connection.close()

    def turn(self) -> None:
        """One round: what is ready, what is due, what is queued.

        Raises:
            OwnerGone: If the owner has closed its end or died.
        """
        traffic = self._traffic
        empty_ns = self._poll_ns
        now_ns = monotonic_ns()
        rest_ns = traffic.pause.ns - (now_ns - empty_ns)
        if rest_ns > SHORTEST_SLEEP_NS and traffic.schedule.next_due_ns(now_ns) > now_ns + 2 * rest_ns:
            sleep(rest_ns / 1e9)
            now_ns = monotonic_ns()
        self._poll_ns = now_ns
        events = self._poller.ready()
        if not events:
            empty_ns = now_ns
            events = self._wait(now_ns)
            now_ns = monotonic_ns()
        quick_ways = traffic.quick
        for fd, mask in events:
            quick = quick_ways.get(fd)
            if quick is not None:
                # Nearly every read: as little as can be done with it here, the rest once a tick.
                reads, receive = quick
                try:
                    data, ancillary, _, _ = receive(SMALL_READ_BYTES, ANCILLARY_BYTES)
                except BlockingIOError:
                    continue
                except OSError as error:
                    traffic.on_quick_broken(fd, error)
                    continue
                if data[-4:] == b"\n\n\r\n" and ancillary and len(data) < SMALL_READ_BYTES:
                    reads += (data, ancillary[0][2], monotonic_ns(), empty_ns)
                    if len(reads) > MAX_QUICK_VALUES:
                        traffic.settle(fd, now_ns)
                else:
                    traffic.on_quick_other(fd, data, ancillary, empty_ns)
                continue
            connection = traffic.connections.get(fd)
            if connection is None:
                self._on_owner()
                traffic = self._traffic
            elif connection.state == READING:
                traffic.on_answer(connection, empty_ns)
            else:
                traffic.on_other(connection, mask, empty_ns)
        if self._started:
            traffic.send_due()
        after_ns = monotonic_ns()
        if after_ns >= self._next_tick_ns:
            self._on_tick(after_ns)
        link = self._link
        if link.queued_bytes and (
            link.urgent or link.queued_bytes > FLUSH_BYTES or after_ns - link.flushed_ns > FLUSH_NS
        ):
            link.flush(after_ns)
        if after_ns - now_ns > traffic.counts["loop_max_ns"]:
            traffic.counts["loop_max_ns"] = after_ns - now_ns

    def _begin_level(self, settings: Settings) -> None:
        """Forget the level before and take new settings."""
        self._settings = settings
        self._traffic = Traffic(settings, self._link, self._poller, self._clock)
        self._started = False
        self._cpu_start_ns = process_time_ns()
        self._next_tick_ns = self._next_beat_ns = 0
        self._poll_ns = monotonic_ns()

    def _wait(self, now_ns: int) -> list[tuple[int, int]]:
        """Wait for something to come in, at most until the loop must turn again anyway."""
        traffic, schedule = self._traffic, self._traffic.schedule
        wake_ns = self._next_tick_ns if self._started or traffic.opening else now_ns + IDLE_NS
        if self._link.queued_bytes:
            wake_ns = min(wake_ns, self._link.flushed_ns + FLUSH_NS)
        due_ns = max(schedule.next_due_ns(now_ns), traffic.paused_until_ns) if self._started else schedule.start_ns
        return self._poller.wait(min(wake_ns, due_ns) - now_ns, exact=due_ns < wake_ns)

    def _on_owner(self) -> None:
        """Do what the owner says."""
        now_ns = monotonic_ns()
        schedule = self._traffic.schedule
        for kind, number, payload in self._link.receive():
            if kind == frames.ITEM:
                schedule.add(Item(number, payload), now_ns)
            elif kind == frames.CONFIGURE:
                self._begin_level(Settings.from_bytes(payload))
                schedule = self._traffic.schedule
            elif kind == frames.OPEN:
                self._traffic.open_ahead(number)
            elif kind == frames.START:
                self._start(int(payload))
            elif kind == frames.CONCURRENCY:
                schedule.slots = number
            elif kind == frames.NO_MORE:
                schedule.no_more = True
            elif kind == frames.ABANDON:
                schedule.abandon(number)
            elif kind == frames.DRAIN:
                schedule.drain()
            elif kind == frames.CLOSE:
                self._close_level()
                schedule = self._traffic.schedule

    def _start(self, start_ns: int) -> None:
        """The clock starts at the given time; from now on the garbage collector keeps quiet."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._cpu_start_ns = process_time_ns()
        self._clock.steps = 0
        self._traffic.schedule.start(start_ns)
        self._next_tick_ns = start_ns

    def _on_tick(self, now_ns: int) -> None:
        """Several times a second: clocks, limits, and a word to the owner."""
        tick_ns = TICK_NS + now_ns - self._next_tick_ns
        self._next_tick_ns = now_ns + TICK_NS
        self._started = self._traffic.schedule.start_ns <= now_ns
        if os.getppid() != self._owner_pid:
            raise OwnerGone
        self._clock.refresh()
        self._traffic.look_after(now_ns, tick_ns)
        if self._started and now_ns >= self._next_beat_ns:
            self._next_beat_ns = now_ns + BEAT_NS
            self._link.send(frames.BEAT, 0, self._beat(now_ns))

    def _beat(self, now_ns: int) -> bytes:
        """The counters, as the payload of BEAT and CLOSED."""
        counts, schedule = self._traffic.counts, self._traffic.schedule
        counts["now_ns"] = now_ns
        counts["in_flight"] = counts["begun"] - counts["ended"]
        counts["waiting"] = len(schedule)
        counts["starved_ns"] = schedule.starved_ns
        counts["cpu_ns"] = process_time_ns() - self._cpu_start_ns
        counts["clock_steps"] = self._clock.steps
        counts["backlog_bytes"] = self._link.queued_bytes
        payload = frames.BEAT_FIELDS.pack(*(counts[name] for name in frames.BEAT_NAMES))
        counts["loop_max_ns"] = 0
        return payload

    def _close_level(self) -> None:
        """Cut off what is still in flight, close every connection, and report."""
        self._traffic.cut_off()
        now_ns = monotonic_ns()
        self._link.send(frames.CLOSED, 0, self._beat(now_ns))
        self._link.flush(now_ns)
        gc.enable()
        gc.unfreeze()
        self._begin_level(self._settings)
