"""Whether a level's numbers can be trusted, and what the reader should know about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING

import numpy as np

from sessions.clock import NS_PER_MS
from sessions.metrics import Summary, summarise
from sessions.requests import ABSENT, ClockKind, RequestStatus, RequestTable
from tuner.load.precision import judged_by
from tuner.load.result import Connections, LevelResult, StoppedBy

if TYPE_CHECKING:
    from tuner.load.job import LevelJob

MAX_CPU_RATIO = 0.9
"""A generator process that was busy for more of the time may have been the limit."""

MAX_STARVED_RATIO = 0.05
"""Slots may stand empty for want of prepared requests for this share of the time."""

MAX_SCHEDULE_LAG_MS = 5.0
MAX_SCHEDULE_LAG_RATIO = 0.05
"""An open-loop level is invalid when requests left later (p99) than both of these: ms, and share of the median TTFT."""

MARKED_LAG_RATIO = 0.02
"""Client lag (p99) beyond this share of the median TTFT is pointed out."""

MARKED_DOUBTFUL_RATIO = 0.01
MIN_REACHED_RATIO = 0.9
_MAX_ERROR_TEXTS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How a level went.

    Attributes:
        table: All its requests.
        window_start_ns: Session time at which the window opened.
        window_end_ns: Session time at which it closed.
        elapsed_ns: From the level's start to the window's end.
        stopped_by: What closed it.
        precision: Relative half-width reached, NaN if never looked at.
        inexact_counts: Answers whose tokens per chunk were estimated.
        uncounted: Answers that ended well and told no usage.
        counts: Counters of each generator process.
    """

    table: RequestTable
    window_start_ns: int
    window_end_ns: int
    elapsed_ns: int
    stopped_by: StoppedBy
    precision: float
    inexact_counts: int
    uncounted: int
    counts: list[dict[str, int]]


def judge_level(job: LevelJob, course: Course) -> LevelResult:
    """Work out the level's metrics and whether they are valid."""
    metrics = summarise(course.table, course.window_start_ns, course.window_end_ns, job.slos)
    inside = (course.table.end_ns > course.window_start_ns) & (course.table.end_ns <= course.window_end_ns)
    ended = course.table.select(inside)
    good = ended.select(ended.status == RequestStatus.OK)
    cpu_ratio = max(counts["cpu_ns"] for counts in course.counts) / course.elapsed_ns
    faults = _client_faults(job, course, metrics, cpu_ratio)
    if not len(good):
        faults.insert(0, "no request ended well in the measuring window")
    return LevelResult(
        level=job.level,
        window_start_ns=course.window_start_ns,
        window_end_ns=course.window_end_ns,
        metrics=metrics,
        valid=not faults,
        reasons=tuple(faults + _remarks(job, course, metrics)),
        stopped_by=course.stopped_by,
        relative_half_width=course.precision if isfinite(course.precision) else None,
        clock=_clock(good),
        client_lag_p99_ms=metrics.get("client_lag", {}).get("p99", nan),
        client_cpu_ratio=cpu_ratio,
        generator_processes=len(course.counts),
        token_counts=_token_counts(good, course),
        connections=_connections(course.counts),
        clock_steps=max(counts["clock_steps"] for counts in course.counts),
        error_texts=_error_texts(ended),
    )


def _client_faults(job: LevelJob, course: Course, metrics: Summary, cpu_ratio: float) -> list[str]:
    """What made the client the limit."""
    faults: list[str] = []
    if cpu_ratio > MAX_CPU_RATIO:
        faults.append(f"the load generator was the limit: a process of it was busy for {cpu_ratio:.0%} of the time")
    starved_ratio = max(counts["starved_ns"] for counts in course.counts) / course.elapsed_ns
    if starved_ratio > MAX_STARVED_RATIO:
        faults.append(f"the load generator was the limit: requests were not ready for {starved_ratio:.0%} of the time")
    lag_ms = metrics.get("schedule_lag", {}).get("p99", 0.0)
    ttft_ms = metrics.get("ttft", {}).get("p50", 0.0)
    if job.level.kind == "rate" and lag_ms > max(MAX_SCHEDULE_LAG_MS, MAX_SCHEDULE_LAG_RATIO * ttft_ms):
        faults.append(f"requests left up to {lag_ms:.1f} ms (p99) behind schedule")
    return faults


def _remarks(job: LevelJob, course: Course, metrics: Summary) -> list[str]:
    """What the reader should know though the numbers hold."""
    found = [
        *_timing_remarks(metrics),
        *_server_remarks(job, course, metrics),
    ]
    if job.stop.precision is not None and course.stopped_by in ("time", "requests"):
        reached = f"±{course.precision:.1%}" if isfinite(course.precision) else "unknown"
        judge = judged_by(job.stop.metric)
        found.append(f"precision of {judge} not reached: {reached} instead of ±{job.stop.precision:.1%}")
    resent = sum(counts["resent"] for counts in course.counts)
    if resent:
        found.append(f"{resent} requests were sent again because the server had closed the kept connection")
    if any(counts["clock_steps"] for counts in course.counts):
        found.append("the wall clock was set during the level; times within 0.5 s of that may be off")
    if course.stopped_by == "failures":
        found.append("given up: every request failed")
    return found


def _timing_remarks(metrics: Summary) -> list[str]:
    """Where our own lag shows."""
    found: list[str] = []
    ttft_ms = metrics.get("ttft", {}).get("p50", nan)
    lag_ms = metrics.get("client_lag", {}).get("p99", 0.0)
    if lag_ms > MARKED_LAG_RATIO * ttft_ms:
        found.append(
            f"client lag p99 {lag_ms:.2f} ms is more than {MARKED_LAG_RATIO:.0%} of the median TTFT "
            "(the kernel's clock takes it out)"
        )
    doubtful = metrics.get("doubtful_gap_ratio", {}).get("avg", 0.0)
    if doubtful > MARKED_DOUBTFUL_RATIO:
        found.append(f"{doubtful:.1%} of the gaps are doubtful (one late read held several events), left out of ITL")
    doubtful = metrics.get("doubtful_ttft_ratio", {}).get("avg", 0.0)
    if doubtful > MARKED_DOUBTFUL_RATIO:
        found.append(f"{doubtful:.1%} of the first tokens are doubtful for the same reason, left out of TTFT")
    return found


def _server_remarks(job: LevelJob, course: Course, metrics: Summary) -> list[str]:
    """Where the server did not do what was asked."""
    found: list[str] = []
    if course.uncounted:
        found.append(f"{course.uncounted} answers told no usage: each event with text is counted as one token")
    errors = metrics.get("error_ratio", {}).get("avg", 0.0)
    if errors:
        found.append(f"{errors:.1%} of the requests failed")
    if job.level.kind == "rate" and "request_throughput" in metrics:
        sent, done = metrics["sent_rate"]["avg"], metrics["request_throughput"]["avg"]
        if done < MIN_REACHED_RATIO * sent:
            found.append(f"the server fell behind: {done:.3g} of {sent:.3g} requests/s ended well")
    return found


def _clock(good: RequestTable) -> str:
    kinds = {ClockKind(kind).name.lower() for kind in np.unique(good.clock)}
    return kinds.pop() if len(kinds) == 1 else ("mixed" if kinds else "unknown")


def _token_counts(good: RequestTable, course: Course) -> str:
    if not len(good):
        return "unknown"
    return "estimated" if course.inexact_counts or course.uncounted else "exact"


def _connections(counts: list[dict[str, int]]) -> Connections:
    total = {
        name: sum(each[name] for each in counts) for name in ("opened", "open_failed", "reused", "resent", "connect_ns")
    }
    connect_ms = total["connect_ns"] / total["opened"] / NS_PER_MS if total["opened"] else nan
    return Connections(total["opened"], total["open_failed"], total["reused"], total["resent"], connect_ms)


def _error_texts(ended: RequestTable) -> dict[str, int]:
    counted = Counter(ended.errors[place] for place in ended.error.tolist() if place != ABSENT)
    return dict(counted.most_common(_MAX_ERROR_TEXTS))
