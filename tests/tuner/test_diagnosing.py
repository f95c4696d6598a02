"""What limited a trial, from the samples of its measuring window."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sessions.columns import ENGINE_COLUMNS, GPU_COLUMNS, Column
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.slo import Slo
from tuner.diagnosing import diagnose_trial, gather, knob_for
from tuner.drift import changes, gpu_states
from tuner.search.objective import Objective

S = 1_000_000_000
OBJECTIVE = Objective("output_token_throughput", "avg", "maximize", (Slo("ttft", "p99", "<=", 800.0),))
KNOBS = ("max_batch_size", "kv_cache_config.dtype", "kv_cache_config.free_gpu_memory_fraction", "max_num_tokens")
BUSY = {
    "util_pct": 95.0,
    "tensor_active_pct": 30.0,
    "dram_active_pct": 50.0,
    "power_w": 500.0,
    "power_limit_w": 700.0,
    "sm_clock_mhz": 1980.0,
    "max_sm_clock_mhz": 1980.0,
    "mem_clock_mhz": 2600.0,
    "temp_c": 60.0,
    "throttle_mask": 0.0,
}
SERVING = {"running": 30.0, "waiting": 0.0, "kv_used_ratio": 0.5, "max_batch_size": 64.0, "context_tokens": 100.0}


def row(columns: tuple[Column, ...], known: dict[str, float]) -> list[float]:
    return [known.get(column.name, math.nan) for column in columns]


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., SessionReader]:
    """A session with one trial, measured from second 2 to 8, and its samples."""

    def make(gpu: dict[str, float] | None = None, engine: dict[str, float] | None = None) -> SessionReader:
        path = tmp_path / "run.trtune"
        path.unlink(missing_ok=True)
        recorder = Recorder.create(path, {})
        number = recorder.start_trial("search", {"max_batch_size": 64, "max_num_tokens": 8192})
        level = recorder.start_level(number, "concurrency", 64)
        sources = [(recorder.add_source("gpu", "gpu0", {}), GPU_COLUMNS, {**BUSY, **(gpu or {})})]
        sources.append((recorder.add_source("engine", "engine", {}), ENGINE_COLUMNS, {**SERVING, **(engine or {})}))
        for second in range(10):
            inside = 2 <= second <= 8
            for source, columns, known in sources:
                recorder.add_sample(source, second * S, row(columns, known if inside else {"util_pct": 0.0}))
        recorder.end_level(level, "valid", window_ns=(2 * S, 8 * S))
        recorder.end_trial(number, "complete", score=1.0, feasible=True)
        recorder.close()
        return SessionReader(path)

    return make


@pytest.mark.parametrize(
    ("gpu", "engine", "kind", "knob"),
    [
        ({}, {"kv_used_ratio": 0.98, "waiting": 20.0}, "kv_capacity", "kv_cache_config.dtype"),
        ({}, {"running": 64.0, "waiting": 20.0}, "batch_limit", "max_batch_size"),
        ({}, {"waiting": 20.0, "context_tokens": 8000.0}, "token_budget", "max_num_tokens"),
        ({"power_w": 698.0, "sm_clock_mhz": 1500.0}, {}, "power_cap", None),
        ({"dram_active_pct": 85.0}, {}, "decode_bandwidth", "kv_cache_config.dtype"),
        ({"tensor_active_pct": 75.0}, {}, "prefill_compute", None),
        ({"util_pct": 40.0}, {}, "host", None),
        ({"tensor_active_pct": 50.0, "dram_active_pct": 20.0}, {"waiting": 2.0}, "prefill_compute", None),
        ({}, {"waiting": 9.0}, "admission", "max_num_tokens"),
        ({}, {"waiting": 9.0, "running": 60.0}, "queue", "max_batch_size"),
    ],
)
def test_a_limit_is_named_with_its_evidence_and_the_knob_that_moves_it(
    session: Callable[..., SessionReader], gpu: dict[str, float], engine: dict[str, float], kind: str, knob: str | None
) -> None:
    with session(gpu, engine) as reader:
        told = diagnose_trial(reader, reader.trials()[0], reader.levels(0)[0], OBJECTIVE, KNOBS)

    assert told is not None
    assert (told["kind"], told["knob"]) == (kind, knob)
    assert told["text"].startswith("concurrency 64: limited by ")
    assert any("KV cache" in line for line in told["evidence"])


def test_a_server_that_nothing_limits_gets_no_diagnosis(session: Callable[..., SessionReader]) -> None:
    with session() as reader:
        assert diagnose_trial(reader, reader.trials()[0], reader.levels(0)[0], OBJECTIVE, KNOBS) is None


def test_the_limits_of_a_server_that_does_not_sample_them_are_those_it_was_started_with(
    session: Callable[..., SessionReader],
) -> None:
    with session({}, {"running": 64.0, "waiting": 5.0, "max_batch_size": math.nan}) as reader:
        told = diagnose_trial(reader, reader.trials()[0], reader.levels(0)[0], OBJECTIVE, KNOBS)

    assert told is not None
    assert told["kind"] == "batch_limit"


def test_a_trial_beside_others_is_judged_by_its_own_server_and_gpu(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "run.trtune", {})
    number = recorder.start_trial("search", {"max_batch_size": 64})
    recorder.event("placed", "", trial=number, data={"lane": "lane1", "gpu_uuids": ["GPU-1"]})
    level = recorder.start_level(number, "concurrency", 64)
    waiting = {**SERVING, "running": 64.0, "waiting": 20.0}
    sampled = [
        (recorder.add_source("engine", "engine", {}), ENGINE_COLUMNS, SERVING),
        (recorder.add_source("engine", "lane1/engine", {}), ENGINE_COLUMNS, waiting),
        (recorder.add_source("gpu", "gpu0", {"uuid": "GPU-0"}), GPU_COLUMNS, {**BUSY, "util_pct": 99.0}),
        (recorder.add_source("gpu", "gpu1", {"uuid": "GPU-1"}), GPU_COLUMNS, BUSY),
    ]
    for second in range(2, 9):
        for source, columns, known in sampled:
            recorder.add_sample(source, second * S, row(columns, known))
    recorder.end_level(level, "valid", window_ns=(2 * S, 8 * S))
    recorder.end_trial(number, "complete", score=1.0, feasible=True)
    recorder.close()

    with SessionReader(recorder.path) as reader:
        told = diagnose_trial(reader, reader.trials()[0], reader.levels(0)[0], OBJECTIVE, KNOBS)
        evidence = gather(reader, reader.trials()[0], (2 * S, 8 * S))

    assert told is not None
    assert told["kind"] == "batch_limit"
    assert evidence.gpu == "1"


def test_a_knob_at_the_end_of_its_range_is_not_named(session: Callable[..., SessionReader]) -> None:
    highest = {"max_batch_size": 64}
    with session({}, {"running": 64.0, "waiting": 20.0}) as reader:
        told = diagnose_trial(reader, reader.trials()[0], reader.levels(0)[0], OBJECTIVE, KNOBS, highest)

    assert told is not None
    assert (told["kind"], told["knob"]) == ("batch_limit", None)


def test_a_switch_that_is_on_is_not_named(session: Callable[..., SessionReader]) -> None:
    with session({"tensor_active_pct": 75.0}) as reader:
        trial, level = reader.trials()[0], reader.levels(0)[0]
        off = diagnose_trial(reader, trial, level, OBJECTIVE, ("enable_chunked_prefill",))
        on = replace(trial, params={"enable_chunked_prefill": True})
        told = diagnose_trial(reader, on, level, OBJECTIVE, ("enable_chunked_prefill",))

    assert off is not None
    assert off["knob"] == "enable_chunked_prefill"
    assert told is not None
    assert told["knob"] is None


def test_those_that_wait_for_the_next_iteration_are_no_queue(session: Callable[..., SessionReader]) -> None:
    with session({}, {"waiting": 2.0}) as reader:
        assert diagnose_trial(reader, reader.trials()[0], reader.levels(0)[0], OBJECTIVE, KNOBS) is None


@pytest.mark.parametrize(
    ("beyond", "why", "knob"),
    [
        ({}, "", "max_num_tokens"),
        (
            {"running": 64.0, "waiting": 16.0},
            ", there by batch size: 64 of 64 slots taken, 16 wait, KV cache 50 % used",
            "max_batch_size",
        ),
    ],
)
def test_without_a_shortage_the_slo_that_the_next_load_broke_is_named_and_what_was_short_there(
    tmp_path: Path, beyond: dict[str, float], why: str, knob: str
) -> None:
    recorder = Recorder.create(tmp_path / "run.trtune", {})
    number = recorder.start_trial("search", {"max_num_tokens": 2048, "max_batch_size": 64})
    engine = recorder.add_source("engine", "engine", {})
    loads: tuple[tuple[int, float, dict[str, float]], ...] = ((96, 2000.0, {}), (48, 700.0, {}), (80, 1000.0, beyond))
    for place, (load, ttft_ms, known) in enumerate(loads):
        level = recorder.start_level(number, "concurrency", load)
        begin = 10 * place
        for second in range(begin, begin + 5):
            recorder.add_sample(engine, second * S, row(ENGINE_COLUMNS, {**SERVING, **known}))
        window_ns = (begin * S, (begin + 4) * S)
        recorder.end_level(level, "valid", window_ns=window_ns, result={"ttft": {"p99": ttft_ms}})
    recorder.end_trial(number, "complete", score=1.0, feasible=True)
    recorder.close()

    with SessionReader(recorder.path) as reader:
        told = diagnose_trial(reader, reader.trials()[0], reader.levels(0)[1], OBJECTIVE, KNOBS)

    assert told is not None
    assert told["text"] == f"concurrency 48: limited by the SLO ttft p99 <= 800 ms: 1000 ms at concurrency 80{why}"
    assert told["knob"] == knob


def test_no_knob_is_named_that_the_engine_does_not_have() -> None:
    assert knob_for("batch_limit", ("something_else",)) is None


def test_a_machine_that_changed_is_noticed(session: Callable[..., SessionReader]) -> None:
    with session() as reader:
        before = gpu_states(reader, 0)
    with session(
        {"sm_clock_mhz": 1755.0, "power_limit_w": 600.0, "throttle_mask": float(0x40), "temp_c": 88.0}
    ) as reader:
        now = gpu_states(reader, 0)

    assert changes(before, before, 0.03) == []
    told = changes(before, now, 0.03)
    assert "gpu0: SM clock from 1980 to 1755 MHz" in told
    assert "gpu0: power limit from 700 to 600 W" in told
    assert any("heat" in line for line in told)
    assert changes(before, now, 0.5) == ["gpu0: slowed down by heat, 60 before and 88 °C now"]
