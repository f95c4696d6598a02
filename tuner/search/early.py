"""What is tried first, right after the baseline: what was asked for, the best of older sessions, then guesses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engines.knob import Value
    from tuner.search.history import Observation
    from tuner.search.space import Space
    from tuner.search.strategy import Strategy

ADVICE: Final = 1
"""Pieces of the engine's advice that are tried at once; more of them would only delay the model."""

OLDER: Final = 1
"""The best configurations of older sessions that are tried first."""

DIVERSE: Final = 2
"""Good and different configurations of the prior that are tried before the model chooses."""


@dataclass(frozen=True, slots=True)
class EarlyPoint:
    """A configuration to try before the model chooses.

    Attributes:
        params: Values of the searched knobs.
        by_prior: Whether nothing but the prior speaks for it: not worth a start once the prior is doubted.
    """

    params: dict[str, Value]
    by_prior: bool = False


def early_points(
    strategy: Strategy,
    space: Space,
    known: Sequence[Observation],
    starting_points: Sequence[Mapping[str, Value]],
    advice: Sequence[Mapping[str, Value]],
    rejection: Callable[[Mapping[str, Value]], str | None],
) -> list[EarlyPoint]:
    """What comes after the baseline: what was asked for, what was best in older sessions, then guesses.

    Args:
        strategy: Knows the prior's best, and the best of older sessions.
        space: What is searched.
        known: Results of older sessions.
        starting_points: Configurations to try early, all of them.
        advice: What the engine advises, best first.
        rejection: Why a configuration is not worth starting, or None.
    """
    asked = _moved_into(space, starting_points, rejection)
    asked += [space.nearest(params) for params in strategy.best_of(known)[:OLDER]]
    guesses = _guesses(strategy, _moved_into(space, advice, rejection))
    return [EarlyPoint(params) for params in asked] + [point for point in guesses if point.params not in asked]


def _moved_into(
    space: Space,
    points: Sequence[Mapping[str, Value]],
    rejection: Callable[[Mapping[str, Value]], str | None],
) -> list[dict[str, Value]]:
    """Configurations as the space has them, moved to what can work where one cannot."""
    moved: list[dict[str, Value]] = []
    for point in points:
        near = space.near(point)
        works = next((each for each in near if rejection(space.complete(each)) is None), near[0])
        if works not in moved:
            moved.append(works)
    return moved


def _guesses(strategy: Strategy, advice: list[dict[str, Value]]) -> list[EarlyPoint]:
    """The prior's best, the engine's first advice and another good one of the prior; without a prior only advice."""
    told = [EarlyPoint(params) for params in advice[:ADVICE]]
    diverse = [EarlyPoint(params, by_prior=True) for params in strategy.diverse(DIVERSE)]
    return [*diverse[:1], *told, *diverse[1:]]
