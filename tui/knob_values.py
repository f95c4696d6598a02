"""Reads what a person types as the value of a knob, and says what is allowed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tui.formatting import value_text

if TYPE_CHECKING:
    from tui.snapshot import KnobFact

KnobValue = bool | int | float | str | None

_TRUE = ("on", "true", "yes", "1")
_FALSE = ("off", "false", "no", "0")


def allowed_text(knob: KnobFact) -> str:
    """The domain of a knob in a few words."""
    if knob.kind == "bool":
        return "on, off"
    if knob.choices:
        return ", ".join(value_text(choice) for choice in knob.choices)
    low, high = (value_text(_shown(knob, bound)) if bound is not None else "" for bound in (knob.low, knob.high))
    kind = "whole number" if knob.kind == "int" else "number"
    if low and high:
        return f"{kind} {low} to {high}"
    return f"{kind} from {low}" if low else f"{kind} up to {high}" if high else kind


def parse_value(knob: KnobFact, text: str) -> KnobValue:
    """The value a text stands for.

    Raises:
        ValueError: If it is none of the knob's; the text names the knob, the value and what is allowed.
    """
    typed = text.strip()
    value = _typed(knob, typed)
    if knob.choices and value is not None and knob.kind != "bool" and value not in knob.choices:
        raise _refused(knob, typed)
    if not knob.choices and isinstance(value, float | int) and not _within(knob, value):
        raise _refused(knob, typed)
    return value


def _within(knob: KnobFact, value: float) -> bool:
    return (knob.low is None or value >= knob.low) and (knob.high is None or value <= knob.high)


def _typed(knob: KnobFact, typed: str) -> KnobValue:
    if typed.lower() in ("auto", "none") and knob.default is None:
        return None
    if knob.kind == "bool":
        if typed.lower() in (*_TRUE, *_FALSE):
            return typed.lower() in _TRUE
        raise _refused(knob, typed)
    if knob.kind == "choice":
        for choice in knob.choices:
            if typed == value_text(choice):
                return choice  # type: ignore[no-any-return]
        raise _refused(knob, typed)
    try:
        value = float(typed)
    except ValueError as error:
        raise _refused(knob, typed) from error
    if not math.isfinite(value) or (knob.kind == "int" and not value.is_integer()):
        raise _refused(knob, typed)
    return int(value) if knob.kind == "int" else value


def _shown(knob: KnobFact, bound: float) -> int | float:
    return int(bound) if knob.kind == "int" else bound


def _refused(knob: KnobFact, typed: str) -> ValueError:
    return ValueError(f"{knob.name}: {typed[:20]!r} is not allowed, only {allowed_text(knob)}")
