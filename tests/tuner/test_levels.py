"""Levels: the highest load within the limits is found in few steps, and hopeless trials are left."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tuner.search.levels import DecidingLevels, HighestLevel, HighestListed, LevelChooser, ListedLevels, Measured


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


def test_a_least_throughput_that_is_not_reached_asks_for_more_load() -> None:
    def measure(value: float) -> Measured:
        return Measured(value, value, 0.5 if value < 20 else 0.0, too_light=value < 20)

    assert [each.value for each in walk(ListedLevels((8, 16, 32)), measure)] == [8, 16, 32]
    assert max(each.value for each in walk(HighestLevel(1, 64), measure)) == 64


def test_a_repeated_run_measures_the_deciding_level_and_lighter_ones_only_while_it_breaks_a_limit() -> None:
    def lighter(value: float) -> float | None:
        return value / 2 if value > 8 else None

    assert [each.value for each in walk(DecidingLevels(32, lighter), limit_at(100))] == [32]
    assert [each.value for each in walk(DecidingLevels(32, lighter), limit_at(20))] == [32, 16]
    assert [each.value for each in walk(DecidingLevels(64, lighter), limit_at(1))] == [64, 32, 16]


def test_the_highest_listed_level_within_the_limits_is_found_from_a_guess() -> None:
    ladder = (8.0, 16.0, 32.0, 64.0, 128.0)

    def order(limit: float, guess: float | None) -> list[float]:
        return [each.value for each in walk(HighestListed(ladder, guess), limit_at(limit))]

    assert order(1000, None) == [128], "without a guess the heaviest first"
    assert order(1000, 60) == [64, 128]
    assert order(70, 64) == [64, 128]
    assert order(20, 64) == [64, 32, 16]
    assert order(1, 16) == [16, 8]


@given(st.floats(1, 400), st.floats(1, 400))
def test_whatever_the_guess_the_same_listed_level_is_found(limit: float, guess: float) -> None:
    ladder = (8.0, 16.0, 32.0, 64.0, 128.0)
    measured = walk(HighestListed(ladder, guess), limit_at(limit))

    found = max((each.value for each in measured if each.met), default=None)

    assert found == max((level for level in ladder if level <= limit), default=None)
    assert len({each.value for each in measured}) == len(measured), "no level is measured twice"
