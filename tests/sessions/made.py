"""Sessions made for tests: requests of a closed loop whose latencies are known, recorded as a worker would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sessions.metrics import summarise
from sessions.recorder import Recorder
from sessions.records import Params
from sessions.requests import RequestTable
from sessions.slo import Slo
from tests.sessions.request_rows import row

MS = 1_000_000
S = 1_000_000_000

META: dict[str, Any] = {
    "kind": "tune",
    "name": "made",
    "trtune_version": "0.1.0",
    "engine": {"name": "trtllm", "title": "TensorRT-LLM", "model": "tiny", "version": "1.2", "simulated": False},
    "objective": {
        "label": "maximize output_token_throughput under ttft p99 <= 800 ms",
        "metric": "output_token_throughput",
        "stat": "avg",
        "direction": "maximize",
        "unit": "tokens/s",
        "slos": [{"metric": "ttft", "stat": "p99", "op": "<=", "value": 800.0, "label": "ttft p99 <= 800 ms"}],
    },
    "workload": {"label": "ISL 500, OSL 20, concurrency 8"},
    "host": {"name": "here", "system": "Linux", "python": "3.11", "cpus": 2, "packages": {"numpy": "2.0"}},
}


@dataclass(frozen=True)
class Speed:
    """How a server answers: time to first token and gap between tokens, each with a spread as a share of it."""

    ttft_ms: float = 100.0
    gap_ms: float = 10.0
    spread: float = 0.2
    tokens: int = 20


def closed_loop(
    speed: Speed, *, concurrency: int = 8, start_ns: int = 0, end_ns: int = 10 * S, seed: int = 0, slow: float = 0.0
) -> RequestTable:
    """Requests of a closed loop between two moments.

    Args:
        speed: Of the server.
        concurrency: Streams.
        start_ns: First send.
        end_ns: No request is sent after it.
        seed: Of the noise.
        slow: Spread of a factor common to all streams that wanders within seconds, so that neighbours are alike.
    """
    rng = np.random.default_rng(seed)
    wander = np.zeros(2 + (end_ns - start_ns) // (100 * MS))
    for place in range(1, wander.size):
        wander[place] = 0.9 * wander[place - 1] + rng.normal(0, slow * np.sqrt(1 - 0.81))
    rows: list[dict[str, Any]] = []
    for stream in range(concurrency):
        now_ns = start_ns + int(rng.uniform(0, 50 * MS))
        while now_ns < end_ns:
            factor = float(np.exp(rng.normal(0, speed.spread) + wander[(now_ns - start_ns) // (100 * MS)]))
            ttft_us = speed.ttft_ms * 1000 * factor
            gap_us = speed.gap_ms * 1000 * factor
            chunk_us = [int(ttft_us + place * gap_us) for place in range(speed.tokens)]
            last_ns = now_ns + chunk_us[-1] * 1000
            rows.append(_row(len(rows), stream, now_ns, chunk_us))
            now_ns = last_ns + 1000
    return RequestTable.from_rows(rows)


def _row(index: int, stream: int, sent_ns: int, chunk_us: list[int]) -> dict[str, Any]:
    return row(
        index=index,
        session=stream,
        scheduled_ns=sent_ns,
        sent_ns=sent_ns,
        first_ns=sent_ns + chunk_us[0] * 1000,
        last_ns=sent_ns + chunk_us[-1] * 1000,
        end_ns=sent_ns + chunk_us[-1] * 1000 + 1,
        isl_tokens=500,
        osl_tokens=len(chunk_us),
        chunk_us=chunk_us,
        chunk_tokens=[1] * len(chunk_us),
    )


@dataclass(frozen=True)
class MadeTrial:
    """A trial to record: its settings, and how the server answers at each concurrency."""

    params: Params
    speeds: Mapping[int, Speed]
    kind: str = "search"


def write_session(
    path: Path, trials: Sequence[MadeTrial], meta: Mapping[str, Any] | None = None, *, seconds: int = 10, seed: int = 0
) -> Path:
    """Record a session with these trials; the best level that keeps the limit gives each its score."""
    facts = {**META, **(meta or {})}
    slos = [Slo(told["metric"], told["stat"], told["op"], told["value"]) for told in facts["objective"]["slos"]]
    recorder = Recorder.create(path, facts)
    recorder.set_worker("running", "measuring")
    for trial in trials:
        number = recorder.start_trial(trial.kind, trial.params)
        results = []
        for concurrency, speed in trial.speeds.items():
            level = recorder.start_level(number, "concurrency", concurrency)
            start_ns = recorder.clock.now()
            window_ns = (start_ns + S, start_ns + (seconds - 1) * S)
            table = closed_loop(
                speed, concurrency=concurrency, start_ns=start_ns, end_ns=start_ns + seconds * S, seed=seed + level
            )
            recorder.add_requests(level, table)
            result = summarise(table, *window_ns, slos)
            recorder.end_level(level, "valid", window_ns=window_ns, result=result, notes=["kernel clock"])
            results.append((result, all(slo.holds(result) for slo in slos)))
        kept = [result for result, met in results if met] or [result for result, _ in results]
        best = max(kept, key=lambda result: result["output_token_throughput"]["avg"])
        recorder.end_trial(
            number,
            "complete",
            score=best["output_token_throughput"]["avg"],
            feasible=any(met for _, met in results),
            result=best,
        )
    recorder.set_worker("done", "the budget is spent")
    recorder.close()
    return path
