"""Everything a level is made of, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.clock import SessionClock
    from sessions.slo import Slo
    from tuner.load.spec import Endpoint, Level, Limits, StopRule, Workload


@dataclass(frozen=True, slots=True)
class LevelJob:
    """Everything a level is made of; see `tuner.load.spec`."""

    endpoint: Endpoint
    workload: Workload
    level: Level
    stop: StopRule
    limits: Limits
    clock: SessionClock
    slos: Sequence[Slo] = ()
