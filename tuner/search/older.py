"""Results of older sessions as this search sees them: in its own knobs, and off by a factor of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution

from tuner.search.record import observation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.knob import Knob, Value
    from sessions.records import Params
    from tuner.search.exchange import Known
    from tuner.search.history import Observation
    from tuner.search.space import Space


def observe_older(known: Sequence[Known], space: Space, knobs: Sequence[Knob]) -> list[Observation]:
    """What older results say about the searched knobs.

    A result whose choice of a searched knob is not among the choices of today says nothing and is left out. Where knobs differ that
    are not searched today, the results that share those values count as a session of their own: all are off by the same factor.

    Args:
        known: The results.
        space: What is searched.
        knobs: All knobs of the engine.
    """
    usual = {knob.name: knob.default for knob in knobs} | space.baseline | space.fixed
    sessions: dict[tuple[object, ...], int] = {}
    observations = []
    for each in known:
        if each.result.value is None and not each.result.infeasible:
            continue
        searched = _searched(each.params, space, usual)
        if searched is None:
            continue
        other = sorted(
            (name, repr(value))
            for name, value in each.params.items()
            if name not in space.distributions and value != usual.get(name)
        )
        number = sessions.setdefault((each.session, *other), len(sessions) + 1)
        observations.append(observation_of(searched, each.result, number))
    return observations


def _searched(params: Params, space: Space, usual: dict[str, Value]) -> dict[str, Value] | None:
    """Values of the searched knobs, of numbers also outside today's ranges; None when a choice does not exist today."""
    values = {name: params.get(name, usual.get(name)) for name in space.distributions}
    for name, distribution in space.distributions.items():
        value = values[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(distribution, CategoricalDistribution) and number:
            number = any(
                isinstance(choice, int | float) and not isinstance(choice, bool) for choice in distribution.choices
            )
        if not number and not space.contains({name: value}):
            return None
    return values
