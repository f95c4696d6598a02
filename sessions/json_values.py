"""JSON values of a session, which a stranger may have written: what is of another kind counts as nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """The value if it is a JSON list, else an empty one."""
    return value if isinstance(value, list) else []


def number(value: Any) -> float:
    """The value as a number, NaN when it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
