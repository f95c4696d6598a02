"""Reads what a person types as the range of a knob: a span, a list of choices, or one fixed value."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui.formatting import value_text
from tui.knob_values import parse_value

if TYPE_CHECKING:
    from tui.snapshot import KnobFact

Domain = dict[str, Any] | list[Any] | bool | int | float | str | None
"""As a plan writes it: a table of `low`, `high`, `log`, `step`; a list; or one value."""

_SPAN = re.compile(r"(\S+?)\s*(?:\.\.|\bto\b)\s*(\S+)((?:\s+\S+)*)$")

HELP = "LOW..HIGH [log] [step N], a list a, b, c, or one value to fix it"


def domain_text(knob: KnobFact) -> str:
    """The range of a knob as it would be typed."""
    if knob.choices:
        return ", ".join(value_text(choice) for choice in knob.choices)
    if knob.kind == "bool":
        return "off, on"
    if knob.low is None or knob.high is None:
        return value_text(knob.default)
    low, high = (_exact(bound) for bound in (knob.low, knob.high))
    step = f" step {_exact(knob.step)}" if knob.step and knob.step != 1 and not knob.log else ""
    return f"{low}..{high}{' log' if knob.log else ''}{step}"


def parse_domain(knob: KnobFact, typed: str) -> Domain:
    """The range a text stands for.

    Raises:
        ValueError: If it is none for this knob; the text names the knob and what can be typed.
    """
    text = typed.strip()
    if not text:
        raise _refused(knob, text)
    if match := _SPAN.match(text):
        return _span(knob, text, match[1], match[2], match[3].split())
    parts = [part.strip() for part in text.split(",") if part.strip()]
    free = replace(knob, low=None, high=None) if knob.kind in ("int", "float") else knob
    free = replace(free, choices=()) if free.kind in ("int", "float") else free
    known = [parse_value(free, part) for part in parts]
    if not known:
        raise _refused(knob, text)
    if len(set(map(repr, known))) < len(known):
        raise ValueError(f"{knob.name}: {text[:40]!r} names a value twice")
    return known[0] if len(known) == 1 else known


def _span(knob: KnobFact, text: str, low: str, high: str, words: list[str]) -> Domain:
    if knob.kind not in ("int", "float"):
        raise ValueError(f"{knob.name}: {text[:40]!r} is a span, but this setting takes choices: {domain_text(knob)}")
    free = replace(knob, low=None, high=None, choices=())
    bounds = [parse_value(free, bound) for bound in (low, high)]
    start, end = (bound for bound in bounds if isinstance(bound, int | float))
    domain: dict[str, Any] = {"low": start, "high": end}
    while words:
        word = words.pop(0).lower()
        if word == "log":
            domain["log"] = True
        elif word == "step" and words:
            domain["step"] = parse_value(free, words.pop(0))
        else:
            raise _refused(knob, text)
    if start >= end:
        raise ValueError(f"{knob.name}: {text[:40]!r} must rise: {value_text(start)} is not below {value_text(end)}")
    if domain.get("log") and start <= 0:
        raise ValueError(f"{knob.name}: {text[:40]!r}: a logarithmic range begins above 0")
    if domain.get("log") and "step" in domain:
        raise ValueError(f"{knob.name}: {text[:40]!r}: a logarithmic range takes no step")
    if domain.get("step", 1) <= 0:
        raise ValueError(f"{knob.name}: {text[:40]!r}: a step is above 0")
    return domain


def _exact(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def _refused(knob: KnobFact, typed: str) -> ValueError:
    return ValueError(f"{knob.name}: {typed[:40]!r} is no range: {HELP}")
