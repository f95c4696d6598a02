"""Failure memory: what asked for more than a configuration that failed is not started.

An out-of-memory at one point rules out every configuration that equals it but for the accused knobs and asks at least as much of
those: a larger batch, token budget, length or memory share asks for more. Parallelism and precision are not ordered so: more GPUs
ask for less memory on each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.knob import Value


@dataclass(slots=True)
class FailureMemory:
    """The configurations that did not start, and why.

    Attributes:
        failures: Configuration, accused knobs and reason of each.
        unordered: Knobs of which a larger value does not ask for more.
    """

    failures: list[tuple[dict[str, Value], tuple[str, ...], str]] = field(default_factory=list)
    unordered: frozenset[str] = frozenset()

    def add(self, params: Mapping[str, Value], accused: tuple[str, ...], reason: str) -> None:
        """Remember a configuration that failed for a reason that lies in it."""
        self.failures.append((dict(params), tuple(name for name in accused if name not in self.unordered), reason))

    def rejection(self, params: Mapping[str, Value]) -> str | None:
        """Why a configuration is not worth starting, or None."""
        for failed, accused, reason in self.failures:
            if _asks_as_much(params, failed, accused):
                return f"asks for as much as a configuration that failed: {reason}"
        return None


def _asks_as_much(params: Mapping[str, Value], failed: Mapping[str, Value], accused: tuple[str, ...]) -> bool:
    for name in params.keys() | failed.keys():
        mine, theirs = params.get(name), failed.get(name)
        if mine == theirs:
            continue
        numbers = isinstance(mine, int | float) and isinstance(theirs, int | float)
        if name not in accused or not numbers or isinstance(mine, bool) or isinstance(theirs, bool):
            return False
        if mine < theirs:  # type: ignore[operator]  # both are numbers here
            return False
    return True
