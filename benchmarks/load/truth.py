"""What the load generator reports against what the truth server did, and what it cost."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from numpy.typing import NDArray

from sessions.clock import SessionClock
from sessions.metrics import chunk_gaps, request_values
from sessions.requests import RequestTable
from tuner.load.generator import LoadGenerator
from tuner.load.lengths import Fixed
from tuner.load.spec import Endpoint, Level, Limits, StopRule, Workload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tuner.load.result import LevelResult

HERE = Path(__file__).parent
Log = dict[int, tuple[int, NDArray[np.int64]]]
"""Request number to its arrival and the times of its tokens, in ns of CLOCK_MONOTONIC."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load on the truth server.

    Attributes:
        streams: Concurrency.
        requests: Requests in all.
        tokens: Chunks of each answer.
        ttft_us: Time the server takes to the first one.
        itl_us: Time between them; 0 is as fast as the socket takes them.
    """

    streams: int
    requests: int
    tokens: int
    ttft_us: int = 0
    itl_us: int = 0

    @property
    def chunks(self) -> int:
        """Chunks in all."""
        return self.requests * self.tokens


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scenario; errors are absolute differences from the truth.

    Attributes:
        ttft_error_ms: Of requests whose first token is certain.
        gap_error_ms: Of certain gaps.
        doubtful_gap_ratio: Share of the other gaps.
        doubtful_ttft_ratio: Share of the other first tokens.
        good: Requests that ended well.
        generator_cpu_s: CPU time of the generator processes.
        collector_cpu_s: CPU time of this process meanwhile.
        window_s: From the first request to the last end.
        generator_rss_mb: Largest memory of a generator process.
        result: As the level reported it.
    """

    ttft_error_ms: NDArray[np.float64]
    gap_error_ms: NDArray[np.float64]
    doubtful_gap_ratio: float
    doubtful_ttft_ratio: float
    good: int
    generator_cpu_s: float
    collector_cpu_s: float
    window_s: float
    generator_rss_mb: float
    result: LevelResult


@cache
def server_command() -> tuple[str, ...]:
    """How to start the truth server: compiled from C where a compiler is, else the Python one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler:
        program = Path(tempfile.mkdtemp(prefix="truth-")) / "truth_server"
        built = subprocess.run(
            [compiler, "-O2", "-o", program, HERE / "truth_server.c"], capture_output=True, check=False
        )
        if built.returncode == 0:
            return (str(program),)
    return (sys.executable, str(HERE / "truth_server.py"))


@asynccontextmanager
async def truth_server(scenario: Scenario, log: Path) -> AsyncIterator[int]:
    """Run the server of a scenario; gives its port, and leaves its log in the file."""
    arguments = ["0", str(scenario.ttft_us), str(scenario.itl_us), str(log)]
    server = await asyncio.create_subprocess_exec(*server_command(), *arguments, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    try:
        yield int((await server.stdout.readline()).split()[1])
    finally:
        server.send_signal(signal.SIGTERM)
        await server.wait()


async def measure(scenario: Scenario) -> Outcome:
    """Run a scenario with trtune's generator and compare."""
    tables: list[RequestTable] = []
    clock = SessionClock.start()
    peak = [0.0]

    def remember(table: RequestTable) -> None:
        tables.append(table)
        peak[0] = max([peak[0], *(psutil.Process(pid).memory_info().rss / 1e6 for pid in generator.pids)])

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        async with truth_server(scenario, log) as port, LoadGenerator() as generator:
            began_s = time.process_time()
            result = await generator.run(
                Endpoint(f"http://127.0.0.1:{port}", "truth"),
                Workload(isl=Fixed(tokens=100), osl=Fixed(tokens=scenario.tokens)),
                Level("concurrency", scenario.streams),
                StopRule(max_requests=scenario.requests, max_s=None),
                Limits(),
                clock=clock,
                on_requests=remember,
                on_progress=lambda progress: None,
            )
            collector_cpu_s = time.process_time() - began_s
        truth = read_log(log)
    window_s = (result.window_end_ns - result.window_start_ns) / 1e9
    return compare(RequestTable.concat(tables), truth, result, collector_cpu_s, window_s, peak[0])


async def bare_cpu_s(scenario: Scenario) -> float:
    """CPU seconds of the bare client in a scenario."""
    with tempfile.TemporaryDirectory() as folder:
        async with truth_server(scenario, Path(folder) / "log") as port:
            numbers = (port, scenario.streams, scenario.requests, scenario.tokens)
            command = [sys.executable, "-S", "-E", str(HERE / "bare_client.py"), *map(str, numbers)]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def read_log(path: Path) -> Log:
    """Read what the truth server wrote."""
    numbers = np.fromfile(path, dtype=np.int64)
    log: Log = {}
    at = 0
    while at < len(numbers):
        count = int(numbers[at + 2])
        log[int(numbers[at])] = (int(numbers[at + 1]), numbers[at + 3 : at + 3 + count])
        at += 3 + count
    return log


def compare(
    table: RequestTable, truth: Log, result: LevelResult, collector_cpu_s: float, window_s: float, rss_mb: float
) -> Outcome:
    """Differences between a table and the truth."""
    good = table.select(table.status == 0)
    values, gaps = request_values(good), chunk_gaps(good)
    true_ttft_ms = np.array([(truth[index][1][0] - truth[index][0]) / 1e6 for index in good.index.tolist()])
    errors = np.abs(values.ttft_ms - true_ttft_ms)[values.ttft_certain]
    gap_errors: list[NDArray[np.float64]] = [np.empty(0)]
    for place, index in enumerate(good.index.tolist()):
        mine = slice(*np.searchsorted(gaps.row, [place, place + 1]).tolist())
        true_gaps = np.diff(truth[index][1]) / 1e6
        if len(true_gaps) == len(gaps.gap_ms[mine]):
            gap_errors.append(np.abs(gaps.gap_ms[mine] - true_gaps)[gaps.certain[mine]])
    return Outcome(
        ttft_error_ms=errors,
        gap_error_ms=np.concatenate(gap_errors),
        doubtful_gap_ratio=float(np.mean(~gaps.certain)) if gaps.certain.size else 0.0,
        doubtful_ttft_ratio=float(np.mean(~values.ttft_certain)),
        good=len(good),
        generator_cpu_s=result.client_cpu_ratio * window_s,
        collector_cpu_s=collector_cpu_s,
        window_s=window_s,
        generator_rss_mb=rss_mb,
        result=result,
    )


def percentile(values: NDArray[np.float64], rank: float) -> float:
    """A percentile, NaN of nothing."""
    return float(np.percentile(values, rank)) if values.size else float("nan")
