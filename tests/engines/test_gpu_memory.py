"""The wait until GPU memory is free again, with readings made up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from engines.launch.gpu_memory import STILL_READINGS, TOLERANCE_BYTES, GpuMemory

GIB = 2.0**30


class Readings:
    """Reads one value after the other; the last one for ever."""

    def __init__(self, gib: Iterable[float]) -> None:
        self._left: Iterator[float] = iter(gib)
        self.now = 0.0
        self.count = 0

    def __call__(self) -> dict[str, float]:
        self.now = next(self._left, self.now)
        self.count += 1
        return {"0": self.now * GIB, "1": 1.0 * GIB}


def test_it_waits_until_the_memory_is_back_where_it_was() -> None:
    readings = Readings([2, 70, 40, 2.1])
    memory = GpuMemory(readings, sleep=lambda _: None)
    memory.remember()

    assert memory.settle() == ""
    assert readings.count == 4


def test_memory_that_is_never_given_back_is_said_after_a_while() -> None:
    readings = Readings([2, 70, 12])
    memory = GpuMemory(readings, sleep=lambda _: None)
    memory.remember()

    assert memory.settle() == "GPU 0 holds 10.0 GiB more"
    assert readings.count < 10 + STILL_READINGS


def test_the_baseline_is_that_of_before_the_first_start() -> None:
    memory = GpuMemory(Readings([2, 60, 60]), sleep=lambda _: None)
    memory.remember()
    memory.remember()

    assert memory.settle() == "GPU 0 holds 58.0 GiB more"


def test_a_host_without_gpus_is_never_waited_for() -> None:
    memory = GpuMemory(dict, sleep=lambda _: None)
    memory.remember()

    assert memory.settle() == ""


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_the_wait_ends_whatever_is_read_and_says_what_was_read_last(gib: list[float]) -> None:
    readings = Readings([0, *gib])
    memory = GpuMemory(readings, sleep=lambda _: None)
    memory.remember()

    held = memory.settle()

    assert readings.count <= 1 + len(gib) + STILL_READINGS
    assert (held == "") == (readings.now * GIB <= TOLERANCE_BYTES)
