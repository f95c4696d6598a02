"""The search space: the engine's knobs as the plan wants them searched."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tuner.errors import BadPlan, NothingToSearch
from tuner.plan import KnobRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from optuna.distributions import BaseDistribution

    from engines.knob import Knob, Value
    from sessions.records import Params
    from tuner.plan import KnobValue

_MOST_MOVED = 6
"""Numbers of a configuration that are moved to either side at most."""

_MOST_LARGER = 2
"""Choices above a number that it is moved to at most."""

_TOO_SMALL = 5.0
"""What is moved below the advice lies so many times as far from it: a limit that is too low holds the load back, and one that is
too high costs little."""

DEFAULT_WORDS: Mapping[object, str] = {None: "default"}
"""How a value that is left to the server is written for a person."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched, what is fixed, and what the baseline is.

    Attributes:
        knobs: The knobs that are searched, by name.
        distributions: Their domains, as Optuna wants them.
        fixed: Knobs the plan holds at one value in every trial.
        unfixed: The server's own defaults of these.
        baseline: The first trial: the server's defaults with the plan's own changes.
    """

    knobs: Mapping[str, Knob]
    distributions: Mapping[str, BaseDistribution]
    fixed: Params
    baseline: Params
    unfixed: Params = field(default_factory=dict)

    def complete(self, searched: Mapping[str, Value]) -> Params:
        """A whole configuration from values of the searched knobs: with what is fixed, without what is left to the server.

        A knob whose `requires` is not met has no effect and is left out, so that equal servers have equal configurations.
        """
        params = {**self.fixed, **searched}
        kept: Params = {}
        for name, value in params.items():
            knob = self.knobs.get(name)
            if value is None or (knob is not None and not _in_effect(knob, params)):
                continue
            kept[name] = value
        return kept

    def contains(self, params: Mapping[str, Value]) -> bool:
        """Whether every searched knob among the values lies in its domain."""
        return all(self._has(name, params[name]) for name in self.distributions if name in params)

    def covers(self, params: Mapping[str, Value]) -> bool:
        """Whether a configuration is one that this space has: within the domains, and with what is fixed as it is fixed."""
        held = all(params.get(name, self.unfixed.get(name)) == value for name, value in self.fixed.items())
        return held and self.searched_part(params) is not None

    def searched_part(self, params: Mapping[str, Value]) -> dict[str, Value] | None:
        """Values of the searched knobs in a configuration; None when one lies outside its domain.

        What the configuration does not name is as in the baseline.
        """
        values = {name: params.get(name, self._usual(name)) for name in self.distributions}
        return values if self.contains(values) else None

    def nearest(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Values of the searched knobs as near to a configuration as their domains allow."""
        return {
            name: _nearest(distribution, params.get(name, self._usual(name)))
            for name, distribution in self.distributions.items()
        }

    def near(self, params: Mapping[str, Value]) -> list[dict[str, Value]]:
        """Values of the searched knobs near to a configuration, the nearest first.

        A number that lies between two choices is moved to either of them, and every number also to the next larger ones:
        together with others only some of them may work.
        """
        options = {
            name: _either_side(distribution, params[name])
            if name in params
            else (_nearest(distribution, self._usual(name)),)
            for name, distribution in self.distributions.items()
        }
        moved = [name for name, choices in options.items() if len(choices) > 1][:_MOST_MOVED]
        ways = itertools.product(*(range(len(options[name])) for name in moved))
        first = {name: choices[0] for name, choices in options.items()}
        made = [
            {**first, **{name: options[name][place] for name, place in zip(moved, way, strict=True)}} for way in ways
        ]
        return sorted(made, key=lambda values: _apart(values, params, moved))

    def largest(self) -> dict[str, Value]:
        """The largest value of every searched number that shapes all else, such as the tensor parallelism."""
        return {
            name: value
            for name, value in self.highest().items()
            if self.knobs[name].coarse and self.knobs[name].kind == "int"
        }

    def highest(self) -> dict[str, Value]:
        """The greatest value of every searched number."""
        return {
            name: _nearest(distribution, math.inf)
            for name, distribution in self.distributions.items()
            if self.knobs[name].kind in ("int", "float")
        }

    def _usual(self, name: str) -> Value:
        return self.baseline.get(name, self.knobs[name].default)

    def draw(self, rng: Random) -> dict[str, Value]:
        """Values of the searched knobs, drawn uniformly (on a logarithmic scale where the range is one)."""
        return {name: _draw(distribution, rng) for name, distribution in self.distributions.items()}

    def _has(self, name: str, value: Value) -> bool:
        distribution = self.distributions[name]
        if isinstance(distribution, CategoricalDistribution):
            return any(value == choice and type(value) is type(choice) for choice in distribution.choices)
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and distribution.low <= value <= distribution.high
        )


def build_space(
    knobs: Sequence[Knob],
    wanted: Mapping[str, KnobRange | tuple[KnobValue, ...] | KnobValue],
    baseline: Mapping[str, KnobValue],
) -> Space:
    """Join the engine's knobs with the plan's wishes.

    Args:
        knobs: All knobs of the engine.
        wanted: From the plan: a range, choices, or a fixed value by knob name. Empty: the engine's usual search.
        baseline: Values of the baseline that differ from the server's defaults.

    Raises:
        BadPlan: If a name is unknown, or a value or range lies outside the knob's domain.
        NothingToSearch: If no knob is left to change.
    """
    by_name = {knob.name: knob for knob in knobs}
    check_settings(knobs, baseline, "baseline")
    searched = {knob.name: _own_distribution(knob) for knob in knobs if knob.searched} if not wanted else {}
    fixed: Params = {}
    for name, wish in wanted.items():
        _known(name, by_name, "knobs")
        if isinstance(wish, KnobRange):
            searched[name] = _range(by_name[name], wish)
        elif isinstance(wish, tuple):
            searched[name] = _choices(by_name[name], wish)
        elif by_name[name].allows(wish):
            fixed[name] = wish
        else:
            raise BadPlan(f"knobs.{name} = {wish!r}: {_allowed(by_name[name])}")
    if not searched:
        raise NothingToSearch("the plan leaves nothing to search: give at least one knob a range or several choices")
    return Space(
        knobs={name: by_name[name] for name in searched},
        distributions=searched,
        fixed=fixed,
        baseline={**fixed, **dict(baseline)},
        unfixed={name: by_name[name].default for name in fixed},
    )


def check_settings(knobs: Sequence[Knob], settings: Mapping[str, KnobValue], where: str) -> None:
    """Look at the settings of one configuration in a plan.

    Raises:
        BadPlan: If a name is unknown, or a value lies outside the knob's domain.
    """
    by_name = {knob.name: knob for knob in knobs}
    for name, value in settings.items():
        _known(name, by_name, where)
        if not by_name[name].allows(value):
            raise BadPlan(f"{where}.{name} = {value!r}: {_allowed(by_name[name])}")


def _nearest(distribution: BaseDistribution, value: Value) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        if value in distribution.choices:
            return value
        numbers = [choice for choice in distribution.choices if _is_number(choice)]
        if _is_number(value) and numbers:
            return min(numbers, key=lambda choice: (_distance(choice, min(value, max(numbers))), -choice))
        return distribution.choices[0]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not _is_number(value):
        return distribution.low
    return type(distribution.low)(min(max(value, distribution.low), distribution.high))


def _either_side(distribution: BaseDistribution, value: Value) -> tuple[Value, ...]:
    """The choice nearest to a number, the next smaller one and some larger ones; for all else the nearest value."""
    nearest = _nearest(distribution, value)
    if not isinstance(distribution, CategoricalDistribution) or not _is_number(value):
        return (nearest,)
    numbers = sorted(choice for choice in distribution.choices if _is_number(choice))
    below = [choice for choice in numbers if choice < value and nearest != value][-1:]
    above = [choice for choice in numbers if choice > value][:_MOST_LARGER]
    return tuple(dict.fromkeys((nearest, *below, *above)))


def _apart(values: Mapping[str, Value], wanted: Mapping[str, Value], names: Sequence[str]) -> tuple[float, float]:
    """How far some values lie from those wanted; of equally far ones the larger come first."""
    pairs = [(values[name], wanted[name]) for name in names]
    numbers = [(mine, theirs) for mine, theirs in pairs if _is_number(mine) and _is_number(theirs)]
    distances = [_distance(mine, theirs) * (_TOO_SMALL if mine < theirs else 1.0) for mine, theirs in numbers]
    return round(sum(distances), 6), -sum(float(mine) for mine, _ in numbers)


def _distance(one: float, other: float) -> float:
    """How far two numbers lie apart: by their ratio, as sizes do, where both are positive."""
    return abs(math.log(one / other)) if one > 0 and other > 0 else abs(one - other)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw(distribution: BaseDistribution, rng: Random) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        return rng.choice(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = distribution.low, distribution.high
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if distribution.log else rng.uniform(low, high)
    if distribution.step and not distribution.log:
        value = low + round((value - low) / distribution.step) * distribution.step
    return round(value) if isinstance(distribution, IntDistribution) else value


def _known(name: str, by_name: Mapping[str, Knob], where: str) -> None:
    if name in by_name:
        return
    import difflib  # only needed to explain a mistake

    near = difflib.get_close_matches(name, by_name, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(by_name)}"
    raise BadPlan(f"{where}.{name}: this engine has no such knob{hint}")


def own_domain(knob: Knob) -> KnobRange | tuple[KnobValue, ...]:
    """The whole domain of a knob, as a plan writes it.

    Raises:
        BadPlan: If the knob is a number without bounds.
    """
    if knob.kind == "bool":
        return (False, True)
    if knob.choices:
        return tuple(knob.choices)
    if knob.low is None or knob.high is None:
        raise BadPlan(f"knobs.{knob.name}: has no range of its own; give it one in the plan")
    return KnobRange(low=knob.low, high=knob.high, log=knob.log)


def _own_distribution(knob: Knob) -> BaseDistribution:
    own = own_domain(knob)
    return _range(knob, own) if isinstance(own, KnobRange) else CategoricalDistribution(own)


def _range(knob: Knob, wish: KnobRange) -> BaseDistribution:
    if knob.kind not in ("int", "float"):
        raise BadPlan(f"knobs.{knob.name}: takes choices, not a range; {_allowed(knob)}")
    for bound in (wish.low, wish.high):
        if not knob.allows(int(bound) if knob.kind == "int" and bound.is_integer() else bound):
            raise BadPlan(f"knobs.{knob.name} = {bound:g}: {_allowed(knob)}")
    if knob.kind == "int":
        step = int(wish.step or 1)
        return IntDistribution(int(wish.low), int(wish.high), log=wish.log, step=step)
    return FloatDistribution(wish.low, wish.high, log=wish.log, step=wish.step)


def _choices(knob: Knob, wish: tuple[KnobValue, ...]) -> BaseDistribution:
    if not wish:
        raise BadPlan(f"knobs.{knob.name}: the list of choices is empty")
    for value in wish:
        if not knob.allows(value):
            raise BadPlan(f"knobs.{knob.name} = {value!r}: {_allowed(knob)}")
    return CategoricalDistribution(wish)


def _allowed(knob: Knob) -> str:
    """What a knob takes, in words."""
    if knob.kind == "bool":
        return "allowed are true and false"
    if knob.kind == "choice":
        return f"allowed are {', '.join(DEFAULT_WORDS.get(choice) or str(choice) for choice in knob.choices)}"
    if knob.kind in ("text", "list"):
        return f"allowed are {'names or paths' if knob.kind == 'text' else 'items joined with commas, such as 1,2,4'}"
    low = "" if knob.low is None else f" from {knob.low:g}"
    high = "" if knob.high is None else f" to {knob.high:g}"
    return f"allowed is {'an integer' if knob.kind == 'int' else 'a number'}{low}{high}"


def _in_effect(knob: Knob, params: Mapping[str, Value]) -> bool:
    return all(params.get(name) in values for name, values in knob.requires.items() if name in params)
