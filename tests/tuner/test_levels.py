"""Levels: the highest load within the limits is found in few steps, and hopeless trials are left."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.search.levels import HighestLevel, LevelChooser, ListedLevels, Measured, best_possible


def walk(chooser: LevelChooser, measure: Callable[[float], Measured]) -> list[Measured]:
    measured: list[Measured] = []
    while (value := chooser.next(measured)) is not None:
        measured.append(measure(value))
        assert len(measured) < 50
    return measured


def limit_at(limit: float) -> Callable[[float], Measured]:
    """A server that meets its SLOs up to a load, with a throughput that saturates."""
    return lambda value: Measured(value, value / (1 + value / 100), max(0.0, value / limit - 1))


def test_a_list_is_walked_until_a_limit_breaks() -> None:
    assert [each.value for each in walk(ListedLevels((8, 16, 32, 64)), limit_at(20))] == [8, 16, 32]


def test_an_invalid_level_does_not_end_the_list() -> None:
    def invalid(value: float) -> Measured:
        return Measured(value, None, 1.0)

    assert len(walk(ListedLevels((8, 16)), invalid)) == 2


@given(st.floats(1, 1024), st.integers(1, 16), st.integers(17, 1024))
def test_the_highest_load_is_found_to_the_resolution(limit: float, low: int, high: int) -> None:
    measured = walk(HighestLevel(low, high, resolution=0.1, most=14), limit_at(limit))

    met = [each.value for each in measured if each.violation == 0]
    if limit < low:
        assert not met
    else:
        reached = min(limit, high)
        assert max(met) <= reached
        assert max(met) >= reached / 1.1 - 1
    assert len({each.value for each in measured}) == len(measured), "no level is measured twice"


def test_a_good_guess_saves_levels() -> None:
    guessed = walk(HighestLevel(1, 1024, guess=100), limit_at(105))
    blind = walk(HighestLevel(1, 1024, most=20), limit_at(105))

    assert len(guessed) < len(blind)


def test_the_number_of_levels_is_bounded() -> None:
    assert len(walk(HighestLevel(1, 100_000, resolution=0.001, most=4), limit_at(777))) == 4


@given(st.floats(2, 500), st.lists(st.integers(1, 256), min_size=1, max_size=4, unique=True))
def test_the_bound_is_never_below_what_can_be_reached(saturation: float, values: list[int]) -> None:
    def throughput(value: float) -> float:
        return value / (1 + value / saturation)

    measured = [Measured(value, throughput(value), 0.0) for value in values]

    assert best_possible(measured, 256) >= max(throughput(value) for value in range(1, 257))


def test_nothing_is_ruled_out_before_anything_is_known() -> None:
    assert best_possible([], 64) == math.inf
    assert best_possible([Measured(8, None, 1.0)], 64) == math.inf


def test_a_broken_level_caps_what_is_possible() -> None:
    bound = best_possible([Measured(8, 80.0, 0.0), Measured(16, 120.0, 0.4)], 256, margin=0)

    assert bound == pytest.approx(160)
