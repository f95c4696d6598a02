"""The pause between two looks: long where it saves wake-ups, never long enough to be measured."""

from __future__ import annotations

import pytest

from tuner.load.hotpath.pause import MAX_PAUSE_NS, Pause

MS = 1_000_000
TICK_NS = 50 * MS


def paused(*, streams: int, itl_ms: float, ttft_ms: float, request_ms: float) -> Pause:
    pause = Pause()
    pause.note_first(int(ttft_ms * MS))
    pause.note_end(int(request_ms * MS))
    pause.adapt(TICK_NS, streams, int(streams * 50 / itl_ms), piled=0, ended=0, age_ns=0)
    return pause


@pytest.mark.parametrize(
    ("streams", "itl_ms", "ttft_ms", "request_ms", "most_ms"),
    [
        (64, 20, 200, 2200, 2.0),
        (64, 20, 50, 2200, 0.5),
        (64, 4, 200, 2200, 0.5),
        (64, 20, 200, 500, 0.5),
        (1, 20, 200, 2200, 0.0),
        (64, 20, 5, 2200, 0.0),
    ],
)
def test_it_is_far_below_every_time_that_is_measured(
    streams: int, itl_ms: float, ttft_ms: float, request_ms: float, most_ms: float
) -> None:
    pause = paused(streams=streams, itl_ms=itl_ms, ttft_ms=ttft_ms, request_ms=request_ms)
    assert pause.ns == pytest.approx(most_ms * MS, rel=0.02)


def test_it_shrinks_when_it_brings_several_events_into_one_read() -> None:
    pause = paused(streams=64, itl_ms=20, ttft_ms=200, request_ms=2200)
    read = (b"1\r\n\n\n\r\n1\r\n\n\n\r\n", b"", 10 * MS, 8 * MS)
    piled = pause.piled([*read, *read])
    assert piled >= 1
    for _ in range(3):
        pause.adapt(TICK_NS, 64, 160, piled=20, ended=0, age_ns=0)
    assert pause.ns <= MAX_PAUSE_NS // 8


def test_what_a_lag_brought_together_is_not_held_against_it() -> None:
    pause = paused(streams=64, itl_ms=20, ttft_ms=200, request_ms=2200)
    assert pause.piled([b"1\r\n\n\n\r\n1\r\n\n\n\r\n", b"", 90 * MS, 8 * MS]) == 0
