"""Checks settings against an engine's knobs; what is wrong is named, with what would be right."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from engines.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engines.knob import Knob, Value


def check_params(title: str, knobs: Iterable[Knob], params: Mapping[str, Value]) -> None:
    """Refuse what the engine does not know or cannot take.

    Raises:
        BadConfiguration: With the knob, the value and what is allowed, or the nearest known name.
    """
    known = {knob.name: knob for knob in knobs}
    for name, value in params.items():
        if name not in known:
            raise BadConfiguration(f"{title} has no setting {name!r}{_nearest(name, known)}")
        if not known[name].allows(value):
            raise BadConfiguration(f"{title}: {name} cannot be {value!r}; allowed: {domain(known[name])}")


def domain(knob: Knob) -> str:
    """What a knob takes, in words."""
    if knob.kind == "bool":
        return "true or false"
    if knob.kind == "choice":
        return ", ".join("null" if choice is None else str(choice) for choice in knob.choices)
    if knob.kind == "text":
        return "a name or a path"
    if knob.kind == "list":
        return "items joined with commas, such as 1,2,4"
    kind = "a whole number" if knob.kind == "int" else "a number"
    low = f" from {knob.low:g}" if knob.low is not None else ""
    high = f" to {knob.high:g}" if knob.high is not None else ""
    return f"{kind}{low}{high}"


def plain(knob: Knob, value: Value) -> Value:
    """The value in the type the server wants: a sampler may give 8.0 for a whole number."""
    if knob.kind == "int" and isinstance(value, float):
        return int(value)
    return value


def structured(knob: Knob, value: Value) -> Value | list[int | str]:
    """The value as a configuration file holds it: a list as a list."""
    if knob.kind == "list" and isinstance(value, str):
        return [int(item) if item.isdecimal() else item for item in value.split(",")]
    return plain(knob, value)


def _nearest(name: str, known: Mapping[str, Knob]) -> str:
    """A hint; a bare name finds its nested form, such as `dtype` in `kv_cache_config.dtype`."""
    last_parts = {full.rpartition(".")[2]: full for full in known}
    bare = name.rpartition(".")[2]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    close = close or [last_parts[part] for part in difflib.get_close_matches(bare, last_parts, n=1, cutoff=0.75)]
    return f"; did you mean {close[0]!r}?" if close else ""
