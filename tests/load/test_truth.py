"""Exactness and cost against a server that knows the truth: a small form of `benchmarks/load/run.py`.

Nothing here depends on the speed of the machine: errors are between two logs of the same kernel clock, and CPU time is
compared with that of a bare client in the same test. The server itself can lose the CPU between its clock and its write,
so one of a few tries must reach the bars.
"""

from __future__ import annotations

import shutil

import pytest

from benchmarks.load.truth import Scenario, bare_cpu_s, measure, percentile

SMALL = Scenario(streams=64, requests=128, tokens=40, ttft_us=100_000, itl_us=20_000)
FAST = Scenario(streams=16, requests=400, tokens=100)
TRIES = 3
MAX_COST_RATIO_PACED = 4.0
MAX_COST_RATIO_FAST = 5.0
"""CPU of the generator process over that of a client which parses, limits and schedules nothing."""

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


@pytest.mark.parametrize(("scenario", "bar"), [(SMALL, MAX_COST_RATIO_PACED), (FAST, MAX_COST_RATIO_FAST)])
async def test_reading_costs_little_more_than_a_bare_client(scenario: Scenario, bar: float) -> None:
    ratios = []
    for _ in range(TRIES):
        outcome = await measure(scenario)
        ratios.append(outcome.generator_cpu_s / await bare_cpu_s(scenario))
        if ratios[-1] < bar:
            return
    pytest.fail(f"{ratios} times the CPU of a bare client, {bar} is the bar")
