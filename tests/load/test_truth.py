"""Exactness and cost against a server that knows the truth: a small form of `benchmarks/load/run.py`.

Errors are between two logs of the same kernel clock; cost is CPU time, never wall time. The server itself can lose the
CPU between its clock and its write, so one of a few tries must reach the bars.
"""

from __future__ import annotations

import shutil

import pytest

from benchmarks.load.truth import Scenario, bare_cpu_s, measure, percentile

SMALL = Scenario(streams=64, requests=128, tokens=40, ttft_us=100_000, itl_us=20_000)
PACED_SHORT, PACED_LONG = (Scenario(64, requests, 60, 200_000, 20_000) for requests in (64, 192))
FAST_SHORT, FAST_LONG = (Scenario(16, requests, 100) for requests in (100, 500))
TINY_SHORT, TINY_LONG = (Scenario(16, requests, 1) for requests in (100, 700))
TRIES = 3

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc")), reason="the exact server needs a C compiler"
)


async def test_latencies_are_those_of_the_kernel() -> None:
    faults: list[str] = []
    for _ in range(TRIES):
        outcome = await measure(SMALL)
        assert outcome.good == SMALL.requests
        assert outcome.result.clock == "kernel"
        assert outcome.generator_rss_mb < 100
        errors = {
            "TTFT p50": (percentile(outcome.ttft_error_ms, 50), 0.05),
            "TTFT p99": (percentile(outcome.ttft_error_ms, 99), 0.5),
            "gap p99": (percentile(outcome.gap_error_ms, 99), 1.0),
        }
        faults = [f"{name}: {error} ms" for name, (error, bar) in errors.items() if not error < bar]
        if not faults:
            return
    pytest.fail(f"errors beyond the bars: {faults}")


@pytest.mark.parametrize(
    ("short", "long", "bar_us", "bar_ratio"),
    [(PACED_SHORT, PACED_LONG, 20, 1.5), (FAST_SHORT, FAST_LONG, 6, 8), (TINY_SHORT, TINY_LONG, 200, 10)],
    ids=["a paced chunk", "a chunk at full speed", "a one-chunk request"],
)
async def test_the_generator_costs_what_the_bars_allow(
    short: Scenario, long: Scenario, bar_us: float, bar_ratio: float
) -> None:
    """The bar in CPU time; on a machine too busy for it, a multiple of what a bare client needs in the same test."""
    costs: list[str] = []
    chunks = long.chunks - short.chunks
    for _ in range(TRIES):
        generator_s = (await measure(long)).generator_cpu_s - (await measure(short)).generator_cpu_s
        if generator_s < bar_us * 1e-6 * chunks:
            return
        bare_s = await bare_cpu_s(long) - await bare_cpu_s(short)
        if generator_s < bar_ratio * bare_s:
            return
        costs.append(f"{generator_s / chunks * 1e6:.1f} us, {generator_s / bare_s:.1f} times a bare client")
    pytest.fail(f"{costs}; the bars are {bar_us} us, or {bar_ratio} times a bare client")
