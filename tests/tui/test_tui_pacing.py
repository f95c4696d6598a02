from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tui.pacing import QUERY, Pacer

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Alarm:
    ring: Callable[[], None]
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True


@dataclass
class Bench:
    """A pacer with everything it touches written down."""

    written: list[str] = field(default_factory=list)
    frames: int = 0
    alarms: list[Alarm] = field(default_factory=list)

    def pacer(self) -> Pacer:
        return Pacer(self.written.append, self._ready, self._later)

    def _ready(self) -> None:
        self.frames += 1

    def _later(self, _delay_s: float, ring: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(ring))
        return self.alarms[-1]


def test_terminal_that_never_answered_is_not_waited_for() -> None:
    bench = Bench()
    pacer = bench.pacer()

    pacer.painted()

    assert bench.frames == 1
    assert bench.written == []


def test_next_frame_waits_for_the_answer() -> None:
    bench = Bench()
    pacer = bench.pacer()
    pacer.answered()

    pacer.painted()
    assert bench.frames == 0
    assert bench.written == [QUERY]

    pacer.answered()
    assert bench.frames == 1
    assert bench.alarms[0].stopped


def test_one_query_is_under_way_at_most() -> None:
    bench = Bench()
    pacer = bench.pacer()
    pacer.answered()

    pacer.painted()
    pacer.painted()

    assert bench.written == [QUERY]


def test_terminal_that_grows_silent_is_asked_no_more() -> None:
    bench = Bench()
    pacer = bench.pacer()
    pacer.answered()
    pacer.painted()

    bench.alarms[0].ring()
    pacer.painted()

    assert bench.frames == 2
    assert bench.written == [QUERY]
    assert not pacer.active


def test_late_answer_switches_pacing_on_again() -> None:
    bench = Bench()
    pacer = bench.pacer()
    pacer.answered()
    pacer.painted()
    bench.alarms[0].ring()

    pacer.answered()

    assert pacer.active
