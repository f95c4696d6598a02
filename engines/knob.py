"""A setting of a server that the tuner may change: its name, its domain, its default, and what a change costs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = bool | int | float | str | None
"""Value of a knob. None stands for «left to the server»."""

Cost = Literal["build", "restart", "reload", "client"]
"""What changing a knob costs: building an engine and a start, a new server process, a reload inside it, or nothing but
another request."""

_LIST = re.compile(r"[\w.+-]+(,[\w.+-]+)*")


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting the tuner may change.

    Attributes:
        name: Name as the server knows it; members of nested objects are joined with a dot.
        kind: Type of its values. A list is written as text, its items joined with commas; a text is a name or a path.
        default: The server's own default; None where the server decides by itself.
        low: Smallest value (int, float).
        high: Largest value (int, float).
        log: Whether the range is searched on a logarithmic scale.
        choices: Allowed values (choice), or the grid for a number.
        cost: What a change costs.
        coarse: Parallelism or precision: a change reshapes everything else.
        searched: Whether it is searched when the plan names no knobs.
        requires: Other knobs and the values of theirs under which this one has an effect.
        help: One line for a person.
        pattern: Further texts a choice takes, as a regular expression for the whole of them; empty for none but `choices`.
        both_ways: Whether too small and too large a value can both fail, as a share of memory does that either starves the KV
            cache or the activations: a failure then says nothing of larger values.
    """

    name: str
    kind: Literal["int", "float", "bool", "choice", "text", "list"]
    default: Value
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    cost: Cost = "restart"
    coarse: bool = False
    searched: bool = False
    requires: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    help: str = ""
    both_ways: bool = False
    pattern: str = ""

    def allows(self, value: Value) -> bool:
        """Whether the value is of the knob's type and inside its domain."""
        if value is None:
            return self.default is None
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "choice":
            return any(value == choice and type(value) is type(choice) for choice in self.choices) or (
                bool(self.pattern) and isinstance(value, str) and re.fullmatch(self.pattern, value) is not None
            )
        if self.kind in ("text", "list"):
            return isinstance(value, str) and self._allows_text(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and (not math.isfinite(value) or (self.kind == "int" and not value.is_integer())):
            return False
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high)

    def _allows_text(self, value: str) -> bool:
        if self.kind == "list":
            return _LIST.fullmatch(value) is not None
        return bool(value.strip()) and value.isprintable()
