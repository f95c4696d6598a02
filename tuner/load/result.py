"""What a level came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tuner.load.spec import Level

StoppedBy = Literal["requests", "time", "precision", "stopped", "failures"]
"""`requests`: max_requests ended; `time`: max_s; `precision`: the interval is narrow enough; `stopped`: somebody
asked; `failures`: nothing but failures for a while."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Connections of a level.

    Attributes:
        opened: How many were opened, before and during the level.
        failed: How many attempts failed.
        reused: Requests sent on a connection that had served another.
        resent: Requests sent again on a fresh connection because a used one had died before a byte of the answer.
        connect_avg_ms: Mean time to connect; never part of TTFT in the closed loop.
    """

    opened: int
    failed: int
    reused: int
    resent: int
    connect_avg_ms: float


@dataclass(frozen=True, slots=True)
class LevelResult:
    """A level's numbers with their conditions.

    Attributes:
        level: What was asked for.
        window_start_ns: Session time at which the measuring window opened.
        window_end_ns: Session time at which it closed.
        metrics: Metric to statistic to value; see `sessions.metrics.METRICS`.
        valid: False when the numbers say more about the client than about the server, or there are none.
        reasons: Why not, and what else the reader should know; one line each.
        stopped_by: What closed the window.
        relative_half_width: Half-width of the 95 % interval of the stop rule's metric, relative to it; None where it
            cannot be told.
        clock: `kernel`, `user` or `mixed`: which clock stamped the tokens.
        client_lag_p99_ms: p99 of our own lag behind the kernel at the first token; NaN without kernel time.
        client_cpu_ratio: CPU of the busiest generator process over the wall time: near 1 it was the limit.
        generator_processes: How many processes sent.
        token_counts: `exact` when chunks and usage agree everywhere, `estimated` when tokens were spread over chunks, or `unknown`.
        connections: See Connections.
        clock_steps: How often the wall clock was set during the level.
        error_texts: Error texts of requests in the window with their counts, most frequent first.
    """

    level: Level
    window_start_ns: int
    window_end_ns: int
    metrics: dict[str, dict[str, float]]
    valid: bool
    reasons: tuple[str, ...]
    stopped_by: StoppedBy
    relative_half_width: float | None
    clock: str
    client_lag_p99_ms: float
    client_cpu_ratio: float
    generator_processes: int
    token_counts: str
    connections: Connections
    clock_steps: int = 0
    error_texts: dict[str, int] = field(default_factory=dict)
