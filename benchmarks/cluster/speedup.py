"""How much faster four nodes are than one: the same search over a real local Ray cluster, trials dominated by waiting.

Run: ``python -m benchmarks.cluster.speedup [--nodes 4] [--trials 16]``

All nodes are processes of this machine, so what is shown is the cost of placing, streaming and recording, and not that of
more GPUs. Each trial of the simulated engine starts slowly and measures for a few seconds; hardly any CPU is used meanwhile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from sessions.reader import SessionReader

PLAN = """
[engine]
name = "trtllm"
model = "llama-3.1-8b"
command = ["{python}", "-m", "engines.simulated"]
arguments = ["--sim-gpu", "h100-sxm", "--sim-gpus", "1", "--sim-time-scale", "0.6"]
[gpu]
local = false
[workload]
isl = 64
osl = 16
[load]
levels = [2]
[load.stop]
min_s = 8
max_s = 8
[search]
trials = %d
proof_rounds = 0
sampler = "random"
[fleet]
check_neighbours = false
[knobs]
max_batch_size = [2, 4, 8, 16, 32, 64, 128, 256]
max_num_tokens = [1024, 2048, 4096, 8192, 16384]
"""


def main() -> None:
    """Print seconds on one node, on several, and the ratio."""
    parser = argparse.ArgumentParser(description="Speed-up of several nodes over one.")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--trials", type=int, default=16)
    told = parser.parse_args()
    one, many = _seconds(1, told.trials), _seconds(told.nodes, told.trials)
    print(f"{told.trials} trials: {one:.0f} s on 1 node, {many:.0f} s on {told.nodes}: {one / many:.2f} times as fast")


def _seconds(nodes: int, trials: int) -> float:
    """From the first trial's start to the last one's end; one trial at a time on each node."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, num_gpus=1)
        with tempfile.TemporaryDirectory() as folder:
            path, plan = Path(folder) / "run.trtune", Path(folder) / "plan.toml"
            plan.write_text(PLAN % trials)
            flags = ["--headless", "--session", str(path), "--cluster", cluster.address, "--side-by-side", str(nodes)]
            begun = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "trtune", "tune", str(plan), *flags], stdout=subprocess.DEVNULL, check=True
            )
            print(f"{nodes} nodes: {time.monotonic() - begun:.0f} s with start and end", flush=True)
            with SessionReader(path) as reader:
                done = [trial for trial in reader.trials() if trial.state == "complete"]
        if len(done) != trials:
            raise SystemExit(f"{len(done)} trials are complete instead of {trials}")
        return (max(trial.end_ns or 0 for trial in done) - min(trial.start_ns for trial in done)) / 1e9
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
