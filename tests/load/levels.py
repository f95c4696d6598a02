"""Running one level in a test."""

from __future__ import annotations

from typing import Any

from sessions.clock import SessionClock
from sessions.requests import RequestTable
from tests.load.servers import Exchange
from tuner.load.generator import LoadGenerator
from tuner.load.lengths import Fixed
from tuner.load.live import LoadProgress
from tuner.load.result import LevelResult
from tuner.load.spec import Endpoint, Level, Limits, StopRule, Workload

SMALL = Workload(isl=Fixed(tokens=8), osl=Fixed(tokens=5))
ONE = Level("concurrency", 1)
PATIENT = Limits(drain_timeout_s=5)
FEW = StopRule(max_requests=4, max_s=None)


class Outcome:
    """A level's result with its rows and progress."""

    def __init__(self) -> None:
        self.tables: list[RequestTable] = []
        self.progress: list[LoadProgress] = []
        self.result: LevelResult | None = None
        self.clock = SessionClock.start()

    @property
    def table(self) -> RequestTable:
        return RequestTable.concat(self.tables)

    @property
    def value(self) -> LevelResult:
        assert self.result is not None
        return self.result

    @property
    def errors(self) -> list[str]:
        return [self.table.errors[place] if place >= 0 else "" for place in self.table.error]


async def run_level(
    generator: LoadGenerator,
    url: str,
    level: Level = ONE,
    workload: Workload = SMALL,
    stop: StopRule = FEW,
    limits: Limits = PATIENT,
    endpoint: dict[str, Any] | None = None,
    **options: Any,
) -> Outcome:
    outcome = Outcome()
    outcome.result = await generator.run(
        Endpoint(url, "m", **(endpoint or {})),
        workload,
        level,
        stop,
        limits,
        clock=outcome.clock,
        on_requests=outcome.tables.append,
        on_progress=outcome.progress.append,
        **options,
    )
    return outcome


async def good(exchange: Exchange) -> None:
    await exchange.whole(0.002)
