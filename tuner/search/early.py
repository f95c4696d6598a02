"""What is tried first, right after the baseline: the best of older sessions, the prior's choice, the engine's advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engines.knob import Value
    from tuner.search.history import Observation
    from tuner.search.space import Space
    from tuner.search.strategy import Strategy

ADVICE: Final = 1
"""Starting points that are tried at once without a prior; more of them would only delay the model."""

OLDER: Final = 1
"""The best configurations of older sessions that are tried first."""

DIVERSE: Final = 2
"""Good and different configurations of the prior that are tried before the model chooses."""


def early_points(
    strategy: Strategy,
    space: Space,
    known: Sequence[Observation],
    starting_points: Sequence[Mapping[str, Value]],
    rejection: Callable[[Mapping[str, Value]], str | None],
) -> list[dict[str, Value]]:
    """What comes after the baseline: what was best in older sessions, then guesses.

    Args:
        strategy: Knows the prior's best, and the best of older sessions.
        space: What is searched.
        known: Results of older sessions.
        starting_points: Configurations worth trying early, best first.
        rejection: Why a configuration is not worth starting, or None.
    """
    older = [space.nearest(params) for params in strategy.best_of(known)[:OLDER]]
    advice = _advice(space, starting_points, rejection)
    return older + [point for point in _guesses(strategy, advice) if point not in older]


def _advice(
    space: Space,
    starting_points: Sequence[Mapping[str, Value]],
    rejection: Callable[[Mapping[str, Value]], str | None],
) -> list[dict[str, Value]]:
    """The starting points as the space has them, moved to what can work where one cannot."""
    advice: list[dict[str, Value]] = []
    for point in starting_points:
        near = space.near(point)
        works = next((each for each in near if rejection(space.complete(each)) is None), near[0])
        if works not in advice:
            advice.append(works)
    return advice


def _guesses(strategy: Strategy, advice: list[dict[str, Value]]) -> list[dict[str, Value]]:
    """The prior's best, the engine's first advice and another good one of the prior; without a prior only advice."""
    diverse = strategy.diverse(DIVERSE)
    if not diverse:
        return advice[:ADVICE]
    return [diverse[0], *advice[:1], *diverse[1:]]
