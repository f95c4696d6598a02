"""What a search asks of its database, counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy

from tuner.plan import KnobRange
from tuner.search.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.plan import KnobValue

OBJECTIVE: Final = Objective("output_token_throughput", "avg", "maximize")
WIDE: Final[dict[str, KnobRange | tuple[KnobValue, ...] | KnobValue]] = {
    "batch": KnobRange(low=1, high=256),
    "tokens": KnobRange(low=256, high=32768),
}
"""More configurations than any test tries."""


@dataclass(slots=True)
class Traffic:
    """What went to databases.

    Attributes:
        statements: How many.
        values: Values in them: a look for so many trials names each of them.
    """

    statements: int = 0
    values: int = 0

    def add(self, parameters: Any) -> None:
        """Count a statement."""
        rows = parameters if isinstance(parameters, list) else [parameters]
        self.statements += 1
        self.values += sum(len(row) for row in rows)


def traffic_of(work: Callable[[], object]) -> Traffic:
    """What some work asks of databases."""
    traffic = Traffic()

    def note(_connection: Any, _cursor: Any, _statement: str, parameters: Any, *_: Any) -> None:
        traffic.add(parameters)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
    return traffic
