"""Requests and sessions that are made up, with the statistics of real ones, for the benchmarks of the session file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sessions.requests import ABSENT, RequestTable

if TYPE_CHECKING:
    from numpy.random import Generator

ITL_US = 20_000
JITTER = 0.1
"""Spread of token gaps, as a share: about what a loaded server shows under continuous batching."""


def made_requests(
    rng: Generator, count: int, tokens: int, start_ns: int, span_ns: int, first_index: int = 0
) -> RequestTable:
    """Finished requests, sent evenly over a span, of so many tokens each, one token a chunk."""
    sent_ns = start_ns + np.sort(rng.integers(0, max(span_ns, 1), count))
    gaps_us = rng.normal(ITL_US, JITTER * ITL_US, (count, tokens)).clip(10).astype(np.int64)
    gaps_us[:, 0] = rng.lognormal(12, 0.4, count).astype(np.int64)  # TTFT around 160 ms
    chunk_us = np.cumsum(gaps_us, axis=1)
    first_ns, last_ns = sent_ns + chunk_us[:, 0] * 1000, sent_ns + chunk_us[:, -1] * 1000
    same = np.full(count, ABSENT, np.int32)
    return RequestTable(
        index=np.arange(first_index, first_index + count, dtype=np.int32),
        session=same,
        turn=np.zeros(count, np.int16),
        scheduled_ns=sent_ns,
        sent_ns=sent_ns,
        first_ns=first_ns,
        last_ns=last_ns,
        end_ns=last_ns + rng.integers(50_000, 400_000, count),
        isl_tokens=rng.integers(500, 1500, count).astype(np.int32),
        osl_tokens=np.full(count, tokens, np.int32),
        cached_tokens=rng.integers(0, 64, count).astype(np.int32) * 8,
        status=np.zeros(count, np.int8),
        http_status=np.full(count, 200, np.int16),
        clock=np.zeros(count, np.int8),
        lag_first_us=rng.integers(5, 60, count).astype(np.int32),
        lag_max_us=rng.integers(60, 400, count).astype(np.int32),
        doubtful_gaps=np.zeros(count, np.int32),
        reused=np.ones(count, np.int8),
        chunks=np.full(count, tokens, np.int32),
        error=np.full(count, ABSENT, np.int16),
        chunk_us=chunk_us.reshape(-1).astype(np.int32),
        chunk_tokens=np.ones(count * tokens, np.uint16),
    )
