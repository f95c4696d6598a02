"""Sessions for the screen's benchmark: one that grows while it is watched, one of many hours."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from sessions.columns import COLUMNS
from sessions.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

HZ = 5
FLUSH_STEPS = 5000
NS_PER_S = 1_000_000_000
GPU_BYTES = 80 * 2**30
SLO = {"metric": "ttft", "stat": "p99", "op": "<=", "value": 500.0, "label": "TTFT p99 <= 500 ms"}
META = {
    "kind": "tune",
    "name": "bench",
    "engine": {"title": "bench", "model": "none", "simulated": True},
    "objective": {"unit": "tokens/s", "metric": "output_token_throughput", "stat": "avg", "slos": [SLO]},
}


class GrowingSession:
    """A session with one running trial whose samples are written as time passes."""

    def __init__(self, path: Path, gpus: int) -> None:
        self.path = path
        self.recorder = Recorder.create(path, META)
        info = {"name": "bench GPU", "memory_bytes": GPU_BYTES}
        self._gpus = [self.recorder.add_source("gpu", f"gpu{index}", info) for index in range(gpus)]
        self._engine = self.recorder.add_source("engine", "bench", {})
        self._load = self.recorder.add_source("load", "load", {})
        self._past_s = 0.0
        for _ in range(12):
            trial = self.recorder.start_trial("search", {"a": 1})
            self.recorder.end_trial(trial, "complete", score=1000.0, feasible=True)
        trial = self.recorder.start_trial("search", {"a": 2})
        level = self.recorder.start_level(trial, "concurrency", 64)
        self.recorder.start_phase(trial, "measure", level)
        self.recorder.set_worker("running", "measuring")

    def fill(self, seconds: float) -> None:
        """Write a past of so many seconds; session time goes on from there."""
        for step in range(round(seconds * HZ)):
            self.sample(step * NS_PER_S // HZ)
            if step % FLUSH_STEPS == 0:
                self.recorder.flush()
        self._past_s = seconds
        self.recorder.flush()

    def follow(self, seconds: float) -> None:
        """Write samples in real time."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.sample(round(self._past_s * NS_PER_S))
            self._past_s += 1 / HZ
            self.recorder.set_worker("running", "measuring")
            self.recorder.flush()
            time.sleep(1 / HZ)

    def close(self) -> None:
        """End the session."""
        self.recorder.set_worker("done", "over")
        self.recorder.close()

    def sample(self, t_ns: int) -> None:
        """One sample of every source, numbers that move like real ones."""
        now_s = t_ns / NS_PER_S
        for index, source in enumerate(self._gpus):
            wave = math.sin(now_s * 0.7 + index) + 0.3 * math.sin(now_s * 3.1 + index * 2)
            self._add(source, "gpu", t_ns, {
                "util_pct": 85 + 10 * wave, "mem_used_bytes": 0.9 * GPU_BYTES, "power_w": 600 + 60 * wave,
                "power_limit_w": 700, "sm_clock_mhz": 1800 + 100 * wave, "max_sm_clock_mhz": 1980, "temp_c": 66 + wave,
                "throttle_mask": 0, "sm_active_pct": 80 + 8 * wave, "tensor_active_pct": 40 + 9 * wave,
                "dram_active_pct": 60 + 9 * wave,
            })  # fmt: skip
        wave = math.sin(now_s * 0.5) + 0.5 * math.sin(now_s * 2.3)
        self._add(self._engine, "engine", t_ns, {
            "running": 60 + 4 * wave, "waiting": 8 + 6 * wave, "paused": 0, "max_batch_size": 64,
            "kv_used_ratio": 0.7 + 0.1 * wave, "kv_capacity_tokens": 400_000, "kv_hit_ratio": 0.3,
            "iteration_ms": 11 + wave, "output_tokens_total": 4000 * now_s,
        })  # fmt: skip
        self._add(self._load, "load", t_ns, {
            "in_flight": 64, "output_tps": 4000 + 300 * wave, "request_rps": 16 + wave, "failed_total": 0,
            "ttft_p50_ms": 180 + 30 * wave, "ttft_p90_ms": 280 + 50 * wave, "ttft_p99_ms": 390 + 90 * wave,
            "itl_p50_ms": 11 + wave, "itl_p99_ms": 22 + 3 * wave, "tpot_p50_ms": 11 + wave, "tpot_p99_ms": 15 + wave,
            "e2e_p50_ms": 3000 + 100 * wave, "e2e_p99_ms": 3600 + 200 * wave, "client_lag_p99_ms": 0.1,
        })  # fmt: skip

    def _add(self, source: int, kind: str, t_ns: int, values: dict[str, float]) -> None:
        self.recorder.add_sample(source, t_ns, [values.get(column.name, math.nan) for column in COLUMNS[kind]])


def write_long_session(path: Path, hours: float, gpus: int) -> Path:
    """A finished session of many hours at 5 samples a second."""
    session = GrowingSession(path, gpus)
    session.fill(hours * 3600)
    session.close()
    return path
