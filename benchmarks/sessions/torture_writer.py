"""Records as a worker does, and reports on stdout what it has handed over: the victim of `benchmarks.sessions.torture`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.sessions.made import made_requests
from sessions.columns import COLUMNS
from sessions.recorder import Recorder

TICK_S = 0.02
BEAT_S = 0.2
TRIAL_TICKS = 15


def main() -> None:
    rng = np.random.default_rng(0)
    recorder = Recorder.resume(Path(sys.argv[1]))
    recorder.set_worker("running", "recording")
    sources = [(kind, recorder.add_source(kind, kind, {})) for kind in ("gpu", "engine", "load")]
    tick, beaten_s = 0, time.monotonic()
    while True:
        trial = recorder.start_trial("search", {"tick": tick})
        recorder.start_phase(trial, "measure")
        level = recorder.start_level(trial, "concurrency", 8)
        for _ in range(TRIAL_TICKS):
            t_ns = recorder.clock.now()
            for kind, source in sources:
                recorder.add_sample(source, t_ns, [float(tick)] * len(COLUMNS[kind]))
            print("sample", tick, t_ns)
            recorder.add_requests(level, made_requests(rng, 1, 5, t_ns - 1_000_000_000, 1))
            print("request", tick, t_ns, flush=True)
            recorder.log("server", "info", f"tick {tick}")
            tick += 1
            if time.monotonic() - beaten_s >= BEAT_S:
                recorder.beat("running")
                beaten_s = time.monotonic()
            time.sleep(TICK_S)
        recorder.end_level(level, "valid", result={"ttft": {"p50": 1.0}})
        recorder.end_trial(trial, "complete", score=float(tick), feasible=True)
        print("trial", trial, float(tick), flush=True)


if __name__ == "__main__":
    main()
