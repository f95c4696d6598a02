"""Writes a plausible tuning session: four GPUs, eight trials with phases, levels, requests and events.

Every time and number follows from the arguments, so two files written with the same arguments show the same screen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sessions.clock import NS_PER_S, SessionClock
from sessions.columns import COLUMNS
from sessions.recorder import Recorder
from sessions.records import FailureRecord
from sessions.requests import RequestTable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sessions.records import Metrics, Params

ORIGIN_UTC_NS = 1_789_000_000 * NS_PER_S
H100_BYTES = 80 * 2**30
POWER_CAP_MASK = 0x4
IDLE_MASK = 0x1

OBJECTIVE: dict[str, Any] = {
    "label": "output tokens/s with TTFT p99 <= 500 ms",
    "metric": "output_token_throughput",
    "stat": "avg",
    "direction": "maximize",
    "unit": "tokens/s",
    "slos": [{"metric": "ttft", "stat": "p99", "op": "<=", "value": 500.0, "label": "TTFT p99 <= 500 ms"}],
}

KNOBS: list[dict[str, Any]] = [
    {"name": "max_batch_size", "kind": "int", "low": 1, "high": 2048, "log": True, "choices": [], "default": 2048},
    {"name": "max_num_tokens", "kind": "int", "low": 256, "high": 65536, "log": True, "choices": [], "default": 8192},
    {
        "name": "kv_cache_config.free_gpu_memory_fraction",
        "kind": "float",
        "low": 0.3,
        "high": 0.98,
        "log": False,
        "choices": [],
        "default": 0.9,
    },
    {"name": "enable_chunked_prefill", "kind": "bool", "low": None, "high": None, "choices": [], "default": False},
    {
        "name": "scheduler_config.capacity_scheduler_policy",
        "kind": "choice",
        "low": None,
        "high": None,
        "choices": ["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"],
        "default": "GUARANTEED_NO_EVICT",
    },
    {"name": "tensor_parallel_size", "kind": "choice", "low": None, "high": None, "choices": [1, 2, 4], "default": 1},
]

SEARCHED: dict[str, Any] = {
    "importance": {
        "method": "ped-anova",
        "trials": 7,
        "shares": {
            "max_batch_size": 0.46,
            "tensor_parallel_size": 0.31,
            "enable_chunked_prefill": 0.14,
            "max_num_tokens": 0.06,
            "kv_cache_config.free_gpu_memory_fraction": 0.02,
            "scheduler_config.capacity_scheduler_policy": 0.01,
        },
    },
    "effects": {
        "max_batch_size": {
            "values": [8, 64, 256, 512, 768, 1024, 2048],
            "score": [1310.0, 2900.0, 4890.0, 6400.0, 6650.0, 5900.0, 4120.0],
            "low": [900.0, 2300.0, 4500.0, 6000.0, 6100.0, 5100.0, 3800.0],
            "high": [1800.0, 3500.0, 5300.0, 6900.0, 7300.0, 6600.0, 4500.0],
            "n": [1, 0, 1, 2, 1, 0, 2],
        },
        "tensor_parallel_size": {"values": [1, 2, 4], "score": [4800.0, 5600.0, 7100.0], "n": [5, 1, 2]},
    },
    "pareto": {
        "objectives": [
            {"metric": "output_token_throughput_per_gpu", "stat": "avg", "direction": "maximize"},
            {"metric": "output_token_throughput_per_user", "stat": "avg", "direction": "maximize"},
        ],
        "front": [
            {"trial": 6, "level": 12, "values": [1852.0, 116.0]},
            {"trial": 3, "level": 7, "values": [2900.0, 84.0]},
            {"trial": 3, "level": 8, "values": [6230.0, 61.0]},
        ],
        "hypervolume": 0.71,
    },
    "queue": [
        {"params": {"max_batch_size": 640, "enable_chunked_prefill": True}, "why": "enqueued by hand"},
        {"params": {"max_batch_size": 1024, "tensor_parallel_size": 4}, "why": "the search's next"},
    ],
    "diagnosis": {
        "6": {
            "kind": "power_cap",
            "text": "the GPUs run into their power limit while tokens are made",
            "evidence": ["power 700 of 700 W in 92 % of the window", "SM clock 1485 of 1980 MHz"],
            "knob": "tensor_parallel_size",
        }
    },
    "quality": {"6": {"passed": True, "agreement": 0.998, "text": "998 of 1000 answers as the unaltered model's"}},
}
"""What a worker tells about its search."""

META: dict[str, Any] = {
    "kind": "tune",
    "name": "llama-3.1-8b-chat",
    "trtune_version": "0.1.0",
    "engine": {
        "name": "trtllm",
        "title": "TensorRT-LLM",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "url": "http://127.0.0.1:8000",
        "simulated": True,
        "version": "1.3.0",
    },
    "objective": OBJECTIVE,
    "knobs": KNOBS,
    "workload": {"label": "chat: ISL 1024, OSL 256, closed loop"},
    "budget": {"trials": 24, "time_s": 3600},
    "host": {"name": "sim-host", "cpus": 16},
    "plan": {},
    **SEARCHED,
}

BASELINE: Params = {knob["name"]: knob["default"] for knob in KNOBS}


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """One trial to write: what it changes, how long it lasts, how it ends."""

    kind: str
    state: str
    changes: Params
    score: float | None
    ttft_p99_ms: float
    itl_p50_ms: float
    lasts_s: int = 40
    levels: tuple[float, ...] = (16.0, 32.0, 64.0)
    failure: FailureRecord | None = None
    power_capped: bool = False


OUT_OF_MEMORY = FailureRecord(
    kind="out_of_memory",
    text="the KV cache and the activations do not fit together into the GPU's memory",
    line="[TRT-LLM] [E] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB",
    accuses=("kv_cache_config.free_gpu_memory_fraction", "max_num_tokens"),
)

TRIALS: tuple[PlannedTrial, ...] = (
    PlannedTrial("baseline", "complete", {}, 4120.0, 431.0, 14.2),
    PlannedTrial("search", "complete", {"max_batch_size": 256}, 4890.0, 402.0, 12.9),
    PlannedTrial(
        "search",
        "failed",
        {"max_num_tokens": 65536, "kv_cache_config.free_gpu_memory_fraction": 0.98},
        None,
        math.nan,
        math.nan,
        lasts_s=18,
        levels=(),
        failure=OUT_OF_MEMORY,
    ),
    PlannedTrial(
        "search", "complete", {"max_batch_size": 512, "enable_chunked_prefill": True}, 6230.0, 377.0, 11.6, 48
    ),
    PlannedTrial("search", "pruned", {"max_batch_size": 8}, None, 690.0, 9.8, 22, levels=(16.0,)),
    PlannedTrial(
        "search",
        "infeasible",
        {"tensor_parallel_size": 2, "scheduler_config.capacity_scheduler_policy": "MAX_UTILIZATION"},
        None,
        1180.0,
        13.7,
    ),
    PlannedTrial(
        "enqueued",
        "complete",
        {"max_batch_size": 512, "enable_chunked_prefill": True, "tensor_parallel_size": 4, "max_num_tokens": 16384},
        7410.0,
        344.0,
        8.4,
        52,
        power_capped=True,
    ),
    PlannedTrial(
        "search",
        "running",
        {"max_batch_size": 768, "enable_chunked_prefill": True, "tensor_parallel_size": 4, "max_num_tokens": 16384},
        None,
        352.0,
        8.6,
        36,
        power_capped=True,
    ),
)


@dataclass(frozen=True, slots=True)
class HandClock(SessionClock):
    """Session time that moves only when told to."""

    hand: list[int] = field(default_factory=lambda: [0])

    def now(self) -> int:
        return self.hand[0]

    def set_s(self, t_s: float) -> None:
        self.hand[0] = round(t_s * NS_PER_S)


def hand_recorder(path: Path, meta: Mapping[str, Any]) -> tuple[Recorder, HandClock]:
    """A recorder whose clock is moved by hand."""
    clock = HandClock(ORIGIN_UTC_NS, 0)
    return Recorder.create(path, meta, clock=clock), clock


def write_sample_session(
    path: Path,
    *,
    over: bool = True,
    gpus: int = 4,
    sample_hz: float = 2.0,
    meta: Mapping[str, Any] | None = None,
    trials: tuple[PlannedTrial, ...] = TRIALS,
) -> Path:
    """Write the sample session.

    Args:
        path: A new file.
        over: Whether the worker ended (the last trial is then ended as skipped); else it is left running.
        gpus: How many GPUs the host has.
        sample_hz: Samples per second of each source.
        meta: Facts that replace those of `META`.
        trials: What is tried.

    Returns:
        `path`.
    """
    writer = _Writer(path, {**META, **(meta or {})}, gpus, sample_hz)
    for trial in trials:
        writer.trial(trial, over=over)
    writer.close(over=over)
    return path


class _Writer:
    def __init__(self, path: Path, meta: Mapping[str, Any], gpus: int, sample_hz: float) -> None:
        self._recorder, self._clock = hand_recorder(path, meta)
        self._step_s = 1.0 / sample_hz
        self._now_s = 0.0
        self._gpus = [
            self._recorder.add_source(
                "gpu",
                f"gpu{index}",
                {
                    "name": "NVIDIA H100 80GB HBM3",
                    "uuid": f"GPU-sim-{index:04d}",
                    "memory_bytes": H100_BYTES,
                    "host": "sim-host",
                    "source": "simulated",
                    "notes": [],
                },
            )
            for index in range(gpus)
        ]
        self._engine = self._recorder.add_source("engine", "trtllm", {"url": "http://127.0.0.1:8000"})
        self._load = self._recorder.add_source("load", "load", {})
        self._energy_j = 0.0
        self._tokens = 0.0
        self._best: float | None = None
        self._recorder.set_worker("running", "tuning")
        self._recorder.log("worker", "info", "session begins: 24 trials at most, one hour at most")

    def trial(self, plan: PlannedTrial, *, over: bool) -> None:
        recorder = self._recorder
        number = recorder.start_trial(plan.kind, {**BASELINE, **plan.changes})
        recorder.start_phase(number, "prepare")
        recorder.log("worker", "info", f"trial {number} ({plan.kind}) begins")
        self._pass(1.0, plan, load=0.0)
        recorder.start_phase(number, "start")
        recorder.update_trial(number, launch={"command": ["trtllm-serve", "model", "--config", f"trial{number}.yaml"]})
        recorder.log("server", "info", "[TRT-LLM] [I] Loading model weights")
        self._pass(7.0, plan, load=0.0)
        if plan.failure is not None:
            recorder.log("server", "error", plan.failure.line)
            self._pass(plan.lasts_s - 8.0, plan, load=0.0)
            recorder.end_trial(number, plan.state, failure=plan.failure)
            return
        recorder.update_trial(
            number, effective={**BASELINE, **plan.changes, "kv_capacity_tokens": 412_000}, ready_s=7.0
        )
        recorder.log("server", "info", "[TRT-LLM] [I] Application startup complete.")
        recorder.start_phase(number, "warm-up")
        self._pass(3.0, plan, load=0.3)
        self._levels(plan, number, over=over)
        if plan.state == "running" and not over:
            return
        recorder.start_phase(number, "stop")
        self._pass(1.0, plan, load=0.0)
        state = "skipped" if plan.state == "running" else plan.state
        result = _metrics(plan, 1.0) if plan.levels else {}
        recorder.end_trial(
            number,
            state,
            score=plan.score,
            feasible=None if state == "skipped" else state == "complete",
            result=result if plan.score else {},
        )
        better = plan.score is not None and (self._best is None or plan.score > self._best)
        if better and plan.score is not None:
            self._best = plan.score
            recorder.event("best", f"trial {number} is the best so far: {plan.score:.0f} tokens/s", trial=number)

    def close(self, *, over: bool) -> None:
        self._recorder.event("mark", "looks good")
        if over:
            self._recorder.log("worker", "info", "session over")
            self._recorder.set_worker("done", "7 trials, best is trial 6")
        else:
            self._recorder.set_worker("running", "trial 7: measuring at concurrency 64")
        self._recorder.close()

    def _levels(self, plan: PlannedTrial, number: int, *, over: bool) -> None:
        recorder = self._recorder
        each_s = (plan.lasts_s - 12.0) / max(1, len(plan.levels))
        for place, value in enumerate(plan.levels):
            last = place == len(plan.levels) - 1
            level = recorder.start_level(number, "concurrency", value)
            recorder.start_phase(number, "measure", level)
            start_ns = self._clock.now()
            share = (place + 1) / len(plan.levels)
            self._pass(each_s, plan, load=share, concurrency=value)
            recorder.add_requests(level, _requests(start_ns, plan))
            if last and plan.state == "running":
                if over:
                    recorder.end_level(level, "aborted", notes=["the operator skipped the trial"])
                return
            recorder.end_level(
                level,
                "valid",
                window_ns=(start_ns + NS_PER_S, self._clock.now()),
                result=_metrics(plan, share),
                notes=["kernel clock", "precision 1.8 %"],
            )

    def _pass(self, seconds: float, plan: PlannedTrial, *, load: float, concurrency: float = 0.0) -> None:
        end_s = self._now_s + seconds
        while self._now_s < end_s - 1e-9:
            self._now_s += self._step_s
            self._clock.set_s(self._now_s)
            self._sample(plan, load, concurrency)
        self._recorder.flush()

    def _sample(self, plan: PlannedTrial, load: float, concurrency: float) -> None:
        t_ns = self._clock.now()
        wave = math.sin(self._now_s * 0.9) * 0.5 + math.sin(self._now_s * 0.23) * 0.5
        for index, source in enumerate(self._gpus):
            values = self._gpu(plan, load, wave, index)
            self._recorder.add_sample(source, t_ns, [values.get(c.name, math.nan) for c in COLUMNS["gpu"]])
        rate = 4000.0 * load * (1 + 0.05 * wave) * (plan.score or 5000.0) / 5000.0
        self._tokens += rate * self._step_s
        engine = {
            "running": concurrency * min(1.0, load * 1.2),
            "waiting": max(0.0, concurrency * (load - 0.8) * (1.2 + wave)),
            "paused": 0.0,
            "scheduled": concurrency * 0.9,
            "context_requests": 2.0 * load,
            "generation_requests": max(0.0, concurrency * 0.9 - 2),
            "max_batch_size": float(str(plan.changes.get("max_batch_size", 2048))),
            "kv_used_ratio": min(0.99, 0.15 + 0.78 * load + 0.04 * wave) if load else 0.0,
            "kv_capacity_tokens": 412_000.0,
            "kv_hit_ratio": 0.31,
            "iteration_ms": plan.itl_p50_ms,
            "output_tokens_total": self._tokens,
            "prompt_tokens_total": self._tokens * 4,
            "preemptions_total": 0.0,
        }
        if load:
            self._recorder.add_sample(self._engine, t_ns, [engine.get(c.name, math.nan) for c in COLUMNS["engine"]])
        if concurrency:
            spike = 1.0 + (0.35 if math.sin(self._now_s * 1.7) > 0.97 else 0.0)
            lat = {
                "concurrency": concurrency,
                "in_flight": concurrency,
                "done_total": self._now_s,
                "failed_total": 0.0,
                "output_tokens_total": self._tokens,
                "output_tps": rate,
                "request_rps": rate / 256,
                "ttft_p50_ms": plan.ttft_p99_ms * 0.45 * load * (1 + 0.1 * wave),
                "ttft_p90_ms": plan.ttft_p99_ms * 0.7 * load * (1 + 0.1 * wave),
                "ttft_p99_ms": plan.ttft_p99_ms * load * (1 + 0.1 * wave) * spike,
                "itl_p50_ms": plan.itl_p50_ms * (0.6 + 0.4 * load),
                "itl_p99_ms": plan.itl_p50_ms * (0.9 + 1.2 * load) * spike,
                "tpot_p50_ms": plan.itl_p50_ms * (0.6 + 0.4 * load),
                "tpot_p99_ms": plan.itl_p50_ms * (0.8 + 0.6 * load),
                "e2e_p50_ms": 256 * plan.itl_p50_ms,
                "e2e_p99_ms": 310 * plan.itl_p50_ms,
                "client_lag_p99_ms": 0.08,
                "slo_met_ratio": 1.0 - 0.4 * (spike - 1.0),
            }
            self._recorder.add_sample(self._load, t_ns, [lat.get(c.name, math.nan) for c in COLUMNS["load"]])

    def _gpu(self, plan: PlannedTrial, load: float, wave: float, index: int) -> dict[str, float]:
        tensor_parallel = int(str(plan.changes.get("tensor_parallel_size", 1)))
        busy = load if index < tensor_parallel else 0.0
        capped = plan.power_capped and busy > 0.9
        power_w = 75.0 + 600.0 * busy + (12.0 * wave if busy else 0.0)
        self._energy_j += power_w * self._step_s
        return {
            "util_pct": min(100.0, 99.0 * min(1.0, busy * 1.6) + wave) if busy else 0.0,
            "mem_used_bytes": (0.91 if busy else 0.02) * H100_BYTES,
            "power_w": min(700.0, power_w + (25.0 if capped else 0.0)),
            "power_limit_w": 700.0,
            "sm_clock_mhz": (1485.0 if capped else 1980.0) if busy else 345.0,
            "max_sm_clock_mhz": 1980.0,
            "mem_clock_mhz": 2619.0,
            "temp_c": 31.0 + 38.0 * busy + index,
            "throttle_mask": float(POWER_CAP_MASK if capped else 0 if busy else IDLE_MASK),
            "energy_j": self._energy_j,
            "sm_active_pct": 88.0 * busy,
            "tensor_active_pct": 41.0 * busy + 3 * wave * busy,
            "dram_active_pct": 78.0 * busy,
        }


def _metrics(plan: PlannedTrial, share: float) -> Metrics:
    throughput = (plan.score or 3000.0) * share
    return {
        "ttft": {"avg": plan.ttft_p99_ms * 0.5, "p50": plan.ttft_p99_ms * 0.45, "p99": plan.ttft_p99_ms * share},
        "itl": {"avg": plan.itl_p50_ms, "p50": plan.itl_p50_ms, "p99": plan.itl_p50_ms * 2.1},
        "tpot": {"avg": plan.itl_p50_ms, "p50": plan.itl_p50_ms, "p99": plan.itl_p50_ms * 1.4},
        "e2e": {"p50": plan.itl_p50_ms * 256, "p99": plan.itl_p50_ms * 310},
        "output_token_throughput": {"avg": throughput},
        "request_throughput": {"avg": throughput / 256},
        "goodput": {"avg": throughput / 260},
        "error_ratio": {"avg": 0.0},
    }


def _requests(start_ns: int, plan: PlannedTrial) -> RequestTable:
    gap_us = round(plan.itl_p50_ms * 1000)
    first_us = round(plan.ttft_p99_ms * 450)
    rows = []
    for index in range(12):
        sent_ns = start_ns + index * 400_000_000
        chunk_us = np.cumsum([first_us, *([gap_us] * 31)]).tolist()
        rows.append(
            {
                "index": index,
                "session": -1,
                "turn": 0,
                "scheduled_ns": sent_ns,
                "sent_ns": sent_ns,
                "first_ns": sent_ns + first_us * 1000,
                "last_ns": sent_ns + chunk_us[-1] * 1000,
                "end_ns": sent_ns + chunk_us[-1] * 1000,
                "isl_tokens": 1024,
                "osl_tokens": 32,
                "cached_tokens": 0,
                "status": 0,
                "http_status": 200,
                "clock": 0,
                "lag_first_us": 40,
                "lag_max_us": 90,
                "doubtful_gaps": 0,
                "reused": 1,
                "error": -1,
                "chunk_us": chunk_us,
                "chunk_tokens": [1] * 32,
            }
        )
    return RequestTable.from_rows(rows)
