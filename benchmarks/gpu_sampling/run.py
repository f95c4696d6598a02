"""What sampling eight GPUs costs: processor time of the sampling thread as a share of a core.

Run: ``python -m benchmarks.gpu_sampling.run [--seconds 20] [--gpus 8]``. The driver is a stand-in whose calls take as long as
the real ones on an H200 did. Two extremes are run: every call is processor time of the caller (spin), or every call waits
(sleep); the truth lies between. The bar is 2 % of a core.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from benchmarks.gpu_sampling.driver import CostlyDriver
from engines.gpu.nvml import NvmlSource

BAR = 0.02
PERIOD_S = 0.25
WARM_UP_S = 6.0
"""The period of the dear readings has settled by then."""


def measure(gpus: int, cost: str, seconds: float) -> tuple[float, float, float, float]:
    """Sample as the worker does.

    Returns:
        Share of a core, the longest sample and the median one in ms, and seconds between two dear readings of a GPU.
    """
    source = NvmlSource(CostlyDriver(gpus, "spin" if cost == "spin" else "sleep"))
    source.attribute(frozenset({101}))
    _sample_for(source, WARM_UP_S)
    cpu_s, wall_s = time.thread_time(), time.monotonic()
    taken_ms = _sample_for(source, seconds)
    share = (time.thread_time() - cpu_s) / (time.monotonic() - wall_s)
    source.close()
    return share, max(taken_ms), statistics.median(taken_ms), source.slow_period_s


def _sample_for(source: NvmlSource, seconds: float) -> list[float]:
    taken_ms, end_s = [], time.monotonic() + seconds
    due_s = time.monotonic()
    while time.monotonic() < end_s:
        began_s = time.thread_time()
        source.sample()
        taken_ms.append((time.thread_time() - began_s) * 1e3)
        due_s = max(due_s + PERIOD_S, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))
    return taken_ms


def main() -> int:
    """Run both extremes; returns 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--gpus", type=int, default=8)
    args = parser.parse_args()
    missed = False
    print(f"{args.gpus} GPUs, a sample every {PERIOD_S * 1e3:.0f} ms, {args.seconds:.0f} s each")
    for cost in ("spin", "sleep"):
        share, longest_ms, median_ms, period_s = measure(args.gpus, cost, args.seconds)
        missed = missed or share >= BAR
        print(
            f"calls {cost:5}: {share:.2%} of a core (bar {BAR:.0%}), processor time of a sample {median_ms:.2f} ms median,"
            f" {longest_ms:.1f} ms longest; energy, activity and processes of a GPU every {period_s:.1f} s"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
