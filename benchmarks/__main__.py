"""Runs the benchmarks behind docs/benchmarks.md, one after the other: `make bench`, or `python -m benchmarks NAME ...`."""

from __future__ import annotations

import argparse
import subprocess
import sys

BENCHMARKS = {
    "calibration": ("benchmarks.simulated.calibration",),
    "emission": ("benchmarks.simulated.emission",),
    "search": ("benchmarks.tuner.run", "--quick"),
    "search-cost": ("benchmarks.tuner.cost",),
    "search-filter": ("benchmarks.tuner.filter",),
    "search-importance": ("benchmarks.tuner.importance",),
    "load": ("benchmarks.load.run",),
    "screen": ("benchmarks.screen.run",),
    "sessions": ("benchmarks.sessions.run", "recording", "frame"),
    "sessions-long": ("benchmarks.sessions.run", "long"),
    "torture": ("benchmarks.sessions.torture",),
    "gpu-sampling": ("benchmarks.gpu_sampling.run",),
    "cluster-workers": ("benchmarks.cluster.workers",),
    "cluster-clients": ("benchmarks.cluster.clients",),
    "cluster-speedup": ("benchmarks.cluster.speedup",),
}
"""Name to module and arguments."""


def main() -> int:
    """Run what was asked for, or everything; returns how many failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: all): {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark is called {', '.join(unknown)}")
    failed = 0
    for name in names:
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", *BENCHMARKS[name]], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
