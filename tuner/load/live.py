"""What is happening now: a sliding window over arrivals, for the screen while a level runs."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np

from sessions.clock import NS_PER_S

WINDOW_S = 5.0
"""Length of the sliding window."""

SETTLE_S = 0.6
"""Arrivals younger than this may still be on their way from the generator: the window ends that long before now."""

BUCKET_NS = 25_000_000
"""Arrived tokens are counted per bucket of this length, for throughput and steadiness."""

Phase = Literal["warm-up", "measure", "drain"]


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Where a level stands; NaN is unknown. Percentiles and rates are those of the last WINDOW_S seconds.

    Attributes:
        t_ns: Session time.
        phase: Part of the level.
        relative_half_width: Half-width of the interval of the stop rule's metric, relative to it, so far.
        concurrency: Slots of a closed-loop level.
        rate: Requests per second asked of an open-loop level.
        in_flight: Requests under way.
        done_total: Requests that ended well; so are the totals below since the level began.
        failed_total: Requests that failed.
        output_tokens_total: Output tokens arrived.
        input_tokens_total: Prompt tokens of ended requests.
        output_tps: Output tokens per second.
        request_rps: Requests that ended well, per second.
        ttft_p50_ms: Percentiles of TTFT, and so on.
        client_lag_p99_ms: Lag of the client itself behind the kernel.
        slo_met_ratio: Share of the ended requests that met every SLO on single requests; failures did not, and what the
            client gave up is not counted.
    """

    t_ns: int
    phase: Phase
    relative_half_width: float = nan
    concurrency: float = nan
    rate: float = nan
    in_flight: int = 0
    done_total: int = 0
    failed_total: int = 0
    output_tokens_total: int = 0
    input_tokens_total: int = 0
    output_tps: float = nan
    request_rps: float = nan
    ttft_p50_ms: float = nan
    ttft_p90_ms: float = nan
    ttft_p99_ms: float = nan
    itl_p50_ms: float = nan
    itl_p99_ms: float = nan
    tpot_p50_ms: float = nan
    tpot_p99_ms: float = nan
    e2e_p50_ms: float = nan
    e2e_p99_ms: float = nan
    client_lag_p99_ms: float = nan
    slo_met_ratio: float = nan


_Series = deque[tuple[int, Sequence[float]]]


class LiveWindow:
    """Collects arrivals and tells the numbers of the last seconds.

    Attributes:
        done_total: See LoadProgress; so are the other totals.
    """

    def __init__(self) -> None:
        self.done_total = 0
        self.failed_total = 0
        self.output_tokens_total = 0
        self.input_tokens_total = 0
        self._bucket_tokens: dict[int, int] = {}
        self._arrived_ns: list[int] = []
        self._arrived_tokens: list[int] = []
        self._ttft: _Series = deque()
        self._gaps: _Series = deque()
        self._tpot: _Series = deque()
        self._e2e: _Series = deque()
        self._lag: _Series = deque()
        self._met: deque[tuple[int, bool]] = deque()

    def note_chunks(self, arrived_ns: list[int], tokens: list[int]) -> None:
        """Chunks of one stream have arrived, with so many tokens each."""
        self._arrived_ns += arrived_ns
        self._arrived_tokens += tokens
        self.output_tokens_total += sum(tokens)

    @property
    def bucket_tokens(self) -> dict[int, int]:
        """Output tokens that arrived, by bucket of BUCKET_NS on the monotonic clock."""
        buckets = self._bucket_tokens
        if self._arrived_ns:
            places = np.array(self._arrived_ns, dtype=np.int64) // BUCKET_NS
            first = int(places.min())
            counts = np.bincount(places - first, weights=self._arrived_tokens)
            for place in np.flatnonzero(counts).tolist():
                buckets[first + place] = buckets.get(first + place, 0) + int(counts[place])
            self._arrived_ns, self._arrived_tokens = [], []
        return buckets

    def note_first(self, arrived_ns: int, ttft_ms: float, lag_ms: float) -> None:
        """A request's first token has arrived."""
        self._ttft.append((arrived_ns, (ttft_ms,)))
        if lag_ms >= 0:
            self._lag.append((arrived_ns, (lag_ms,)))

    def note_gaps(self, arrived_ns: int, gaps_ms: list[float]) -> None:
        """Gaps between tokens, the last of which arrived at the given time."""
        self._gaps.append((arrived_ns, array("d", gaps_ms)))

    def note_end(
        self, end_ns: int, *, good: bool, failed: bool, isl_tokens: int, tpot_ms: float, e2e_ms: float
    ) -> None:
        """A request has ended."""
        self.done_total += good
        self.failed_total += failed
        self.input_tokens_total += max(isl_tokens, 0) if good else 0
        if good:
            self._e2e.append((end_ns, (e2e_ms,)))
            if tpot_ms == tpot_ms:
                self._tpot.append((end_ns, (tpot_ms,)))

    def note_judged(self, ends_ns: list[int], met: list[bool]) -> None:
        """Requests that ended at these times did or did not meet the SLOs."""
        self._met.extend(sorted(zip(ends_ns, met, strict=True)))

    def figures(self, start_ns: int, now_ns: int) -> dict[str, float]:
        """Columns of LoadProgress for the seconds before now; `start_ns` is when the level began. Times are monotonic."""
        end_ns = now_ns - int(SETTLE_S * NS_PER_S)
        begin_ns = max(start_ns, end_ns - int(WINDOW_S * NS_PER_S))
        span_s = (end_ns - begin_ns) / NS_PER_S
        figures: dict[str, float] = {}
        for name, series, ranks in (
            ("ttft", self._ttft, (50, 90, 99)),
            ("itl", self._gaps, (50, 99)),
            ("tpot", self._tpot, (50, 99)),
            ("e2e", self._e2e, (50, 99)),
            ("client_lag", self._lag, (99,)),
        ):
            while series and series[0][0] < begin_ns:
                series.popleft()
            values = np.concatenate([entry[1] for entry in series]) if series else np.empty(0)
            found = np.percentile(values, ranks) if values.size else [nan] * len(ranks)
            figures.update({f"{name}_p{rank}_ms": float(value) for rank, value in zip(ranks, found, strict=True)})
        while self._met and self._met[0][0] < begin_ns:
            self._met.popleft()
        if self._met:
            figures["slo_met_ratio"] = sum(met for _, met in self._met) / len(self._met)
        if span_s > 0:
            buckets = self.bucket_tokens
            tokens = sum(buckets.get(bucket, 0) for bucket in range(begin_ns // BUCKET_NS, end_ns // BUCKET_NS))
            figures["output_tps"] = tokens / span_s
            figures["request_rps"] = sum(begin_ns <= ended_ns < end_ns for ended_ns, _ in self._e2e) / span_s
        return figures
