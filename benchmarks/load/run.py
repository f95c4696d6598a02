"""The bars of the load generator, measured: `python -m benchmarks.load.run [NAME...]`.

Every scenario runs against the truth server. CPU is also given as a multiple of what a bare client (no parsing, no
limits) needs for the same in the same run, since a busy machine makes everything dearer.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bytecode import compile_packages
from benchmarks.load.truth import Outcome, Scenario, bare_cpu_s, measure, percentile, truth_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PACED_64 = Scenario(64, 256, 100, 200_000, 20_000)
PACED_512 = Scenario(512, 2048, 100, 300_000, 20_000)
FAST_SHORT, FAST_LONG = Scenario(64, 200, 100), Scenario(64, 2200, 100)
TINY_SHORT, TINY_LONG = Scenario(64, 200, 1), Scenario(64, 6200, 1)
DENSE = Scenario(1024, 3072, 100, 300_000, 25_000)
HUNDRED = Scenario(16, 100, 20, 50_000, 10_000)


def show(name: str, value: float, bar: str, unit: str) -> None:
    print(f"  {name:<58} {value:>12,.3f} {unit:<10} bar {bar}", flush=True)


def show_errors(outcome: Outcome) -> None:
    show("TTFT error p50", percentile(outcome.ttft_error_ms, 50), "< 0.05", "ms")
    show("TTFT error p99", percentile(outcome.ttft_error_ms, 99), "< 0.5", "ms")
    show("gap error p99 (certain gaps)", percentile(outcome.gap_error_ms, 99), "< 1 at 64", "ms")
    show("doubtful gaps, left out", 100 * outcome.doubtful_gap_ratio, "said", "%")
    show("doubtful first tokens, left out", 100 * outcome.doubtful_ttft_ratio, "said", "%")
    show("client lag p99", outcome.result.client_lag_p99_ms, "said", "ms")


async def paced(scenario: Scenario) -> None:
    outcome = await measure(scenario)
    bare_s = await bare_cpu_s(scenario)
    show_errors(outcome)
    generator_us = outcome.generator_cpu_s / scenario.chunks * 1e6
    show("CPU per chunk, generator process", generator_us, "<= 20", "us")
    show("CPU per chunk, collector", outcome.collector_cpu_s / scenario.chunks * 1e6, "-", "us")
    show("CPU per chunk, bare client in the same run", bare_s / scenario.chunks * 1e6, "-", "us")
    show("generator / bare client", outcome.generator_cpu_s / bare_s, "-", "x")
    show("chunks/s", scenario.chunks / outcome.window_s, "-", "/s")
    show("memory of the generator process", outcome.generator_rss_mb, "< 100", "MB")
    show("requests answered well", outcome.good, f"= {scenario.requests}", "")


async def slope(short: Scenario, long: Scenario, per: str, bar: str) -> None:
    first, second = await measure(short), await measure(long)
    first_bare_s, second_bare_s = await bare_cpu_s(short), await bare_cpu_s(long)
    units = long.chunks - short.chunks
    generator_us = (second.generator_cpu_s - first.generator_cpu_s) / units * 1e6
    show(f"marginal CPU per {per}, generator process", generator_us, bar, "us")
    show(
        f"marginal CPU per {per}, collector", (second.collector_cpu_s - first.collector_cpu_s) / units * 1e6, "-", "us"
    )
    show(
        f"marginal CPU per {per}, bare client in the same run", (second_bare_s - first_bare_s) / units * 1e6, "-", "us"
    )
    show(f"{per}s/s", long.chunks / second.window_s, "-", "/s")


async def full_speed() -> None:
    await slope(FAST_SHORT, FAST_LONG, "chunk", "<= 6")


async def one_chunk() -> None:
    await slope(TINY_SHORT, TINY_LONG, "request", "<= 200")


async def dense() -> None:
    outcome = await measure(DENSE)
    show("offered", DENSE.streams / DENSE.itl_us * 1e6, "-", "chunks/s")
    show(
        "chunks/s in the middle half",
        outcome.result.metrics["output_token_throughput"]["avg"],
        "-",
        "/s",
    )
    busy = outcome.generator_cpu_s / outcome.window_s
    show("generator CPU", busy, "<= 1", "cores")
    show("chunks/s per core of the generator", DENSE.chunks / outcome.generator_cpu_s, ">= 40,000", "/s")
    show_errors(outcome)


async def hundred() -> None:
    began_s = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = await measure(HUNDRED)
    wall_s = time.perf_counter() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    show("requests answered well", outcome.good, "= 100", "")
    show("wall time beyond the window, truth server included", wall_s - outcome.window_s, "< 1", "s")
    show(
        "CPU in all, truth server included",
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "-",
        "s",
    )


FIRST = """
import asyncio, sys, time
async def main():
    from tuner.load.generator import LoadGenerator
    from tuner.load.spec import Endpoint, Level, Limits, StopRule, Workload
    from sessions.clock import SessionClock
    clock = SessionClock.start()
    tables = []
    async with LoadGenerator() as generator:
        await generator.run(
            Endpoint(sys.argv[1]), Workload(), Level("concurrency", 1), StopRule(max_requests=1, max_s=None), Limits(),
            clock=clock, on_requests=tables.append, on_progress=lambda progress: None,
        )
    print(clock.base_monotonic_ns + int(tables[0].sent_ns[0]))
asyncio.run(main())
"""


async def first_request() -> None:
    waits_s = []
    for _ in range(5):
        async with truth_server(HUNDRED, Path("/dev/null")) as port:
            began_ns = time.monotonic_ns()
            command = [sys.executable, "-c", FIRST, f"http://127.0.0.1:{port}"]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
            waits_s.append((int(done.stdout) - began_ns) / 1e9)
    show("process start to first request, median of 5", sorted(waits_s)[2], "< 0.5", "s")


SCENARIOS: dict[str, Callable[[], Awaitable[None]]] = {
    "64 streams, 20 ms ITL": lambda: paced(PACED_64),
    "512 streams, 20 ms ITL": lambda: paced(PACED_512),
    "full speed, 64 streams": full_speed,
    "one-chunk requests, 64 streams": one_chunk,
    "1024 streams, 25 ms ITL": dense,
    "100 requests": hundred,
    "start": first_request,
}


async def main() -> None:
    compile_packages()
    wanted = sys.argv[1:]
    for name, scenario in SCENARIOS.items():
        if not wanted or any(word in name for word in wanted):
            print(name, flush=True)
            await scenario()


if __name__ == "__main__":
    asyncio.run(main())
