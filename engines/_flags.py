"""Settings as command-line words, for servers whose settings are flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines._knobs import plain
from engines.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from engines.knob import Knob, Value

SMALLEST_BATCH = 32
"""A smaller limit saves nothing worth having."""


def flag_words(knobs: Iterable[Knob], params: Mapping[str, Value], *, negated: bool = False) -> tuple[str, ...]:
    """The settings as words, in the order of the knobs; None is left to the server.

    Args:
        knobs: Knobs whose names are the flags without `--`.
        params: Values.
        negated: Whether a switch that is off is said as `--no-NAME`; else it is left out.
    """
    words: list[str] = []
    for knob in knobs:
        value = params.get(knob.name)
        if value is None:
            continue
        if value is True:
            words.append(f"--{knob.name}")
        elif value is False:
            words += [f"--no-{knob.name}"] if negated else []
        else:
            words += [f"--{knob.name}", str(plain(knob, value))]
    return tuple(words)


def check_arguments(
    arguments: Sequence[str], params: Mapping[str, Value], own: frozenset[str], aliases: Mapping[str, str]
) -> None:
    """Refuse what is said twice, by a setting or by trtune itself: which one counts differs between servers.

    Args:
        arguments: Words of the plan.
        params: Settings of this start.
        own: Options that trtune gives, with their dashes.
        aliases: Other spellings of settings: option without leading dashes to the knob's name.

    Raises:
        BadConfiguration: With the option and what to do.
    """
    spelt = {_dashed(name): name for name in params} | {_dashed(other): name for other, name in aliases.items()}
    for word in arguments:
        option = word.partition("=")[0]
        if option in own:
            raise BadConfiguration(f"argument {option} is given by trtune itself; leave it out of the plan's arguments")
        if not option.startswith("-"):
            continue
        name = spelt.get(_dashed(option.lstrip("-")).removeprefix("no-"))
        if name in params:
            raise BadConfiguration(f"argument {option} and the setting {name} say the same; keep the setting")


def _dashed(name: str) -> str:
    """A name in the one spelling in which options are compared: most servers take `-` and `_` alike."""
    return name.replace("_", "-")


def batch_for(sizes: Sequence[int], concurrency: float) -> int:
    """The smallest of the batch sizes that holds so many requests at once, and no fewer than 32; else the largest."""
    return next((size for size in sizes if size >= max(concurrency, SMALLEST_BATCH)), sizes[-1])


def whole(params: Mapping[str, Value], name: str) -> int:
    """A whole number among the settings; 0 when it is not given."""
    value = params.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0
