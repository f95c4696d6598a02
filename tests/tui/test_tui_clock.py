from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.clock import SPEEDS, ViewClock

S = 1_000_000_000


def test_pinned_clock_is_at_the_end() -> None:
    assert ViewClock().at(now_ns=5 * S, end_ns=70 * S) == 70 * S


def test_playing_clock_advances_at_its_speed() -> None:
    clock = ViewClock(pinned=False, playing=True, speed=4.0, anchor_ns=10 * S, since_ns=100 * S)

    assert clock.at(now_ns=102 * S, end_ns=60 * S) == 18 * S


def test_playing_clock_stops_at_the_end() -> None:
    clock = ViewClock(pinned=False, playing=True, anchor_ns=10 * S)

    assert clock.at(now_ns=1000 * S, end_ns=60 * S) == 60 * S


def test_toggle_on_a_live_clock_holds_the_present() -> None:
    clock = ViewClock().toggle(now_ns=0, end_ns=60 * S)

    assert (clock.pinned, clock.playing) == (False, False)
    assert clock.at(now_ns=50 * S, end_ns=90 * S) == 60 * S


def test_toggle_at_the_end_starts_over() -> None:
    clock = ViewClock.at_rest().toggle(now_ns=0, end_ns=60 * S)

    assert clock.playing
    assert clock.at(now_ns=0, end_ns=60 * S) == 0


def test_toggle_while_playing_pauses_where_it_is() -> None:
    playing = ViewClock(pinned=False, playing=True, anchor_ns=10 * S, since_ns=0)

    paused = playing.toggle(now_ns=5 * S, end_ns=60 * S)

    assert not paused.playing
    assert paused.at(now_ns=30 * S, end_ns=60 * S) == 15 * S


@given(st.integers(-20, 20), st.integers(0, 1000))
def test_change_of_speed_moves_nothing(steps: int, now_s: int) -> None:
    clock = ViewClock(pinned=False, playing=True, speed=2.0, anchor_ns=3 * S)

    changed = clock.change_speed(steps, now_s * S, 500 * S)

    assert changed.at(now_s * S, 500 * S) == clock.at(now_s * S, 500 * S)
    assert changed.speed in SPEEDS


@given(st.integers(-(10**15), 10**15), st.integers(0, 10**15))
def test_moment_is_always_inside_the_session(anchor_ns: int, end_ns: int) -> None:
    assert 0 <= ViewClock(pinned=False, anchor_ns=anchor_ns).at(0, end_ns) <= end_ns
