"""Every configuration of every scenario, measured once on the simulated engine without noise, and kept in `data/`.

Configurations that cannot differ in virtual time (a batch limit above the load, a KV pool that is never full) are simulated once.

Run: ``python -m benchmarks.tuner.enumeration [scenario ...]`` makes the files again; about half an hour for all.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.tuner.scenarios import (
    BATCH,
    CHUNKED,
    FRACTION,
    GRAPH_BATCH,
    GRAPH_PADDING,
    KV_DTYPE,
    PER_GPU,
    PER_USER,
    POLICY,
    PP,
    SCENARIOS,
    TOKENS,
    TP,
    VARIANT,
    Scenario,
)
from engines.gpu.hardware import GPUS
from engines.models import Precision, load_checkpoint
from engines.simulated.model import (
    CapacityPolicy,
    CudaGraphs,
    EngineConfig,
    OutOfGpuMemoryError,
    PromptTooLongError,
    Simulation,
    SimulationError,
)
from engines.simulated.model.virtual_load import VirtualLoad, VirtualResult, run_virtual_load
from tuner.search.objective import score_levels

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    from engines.knob import Value
    from engines.models import Checkpoint
    from sessions.records import Metrics

DATA: Final = Path(__file__).parent / "data"
STARTED, OUT_OF_MEMORY, REFUSED, UNSUPPORTED = range(4)
"""What became of a start; REFUSED: the prompts are longer than the configuration takes."""

RESULTS: Final = ("output_token_throughput", "ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99")
"""What is kept of a level: tokens per second, and milliseconds."""

FAILED_START_S: Final = 60.0
LEVEL_S: Final = 60.0
"""What a failed start and a level cost on a real host; a start that works costs what the simulated engine says."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What every configuration of a scenario reaches, in the order of `Scenario.configurations`.

    Attributes:
        value: The objective at the chosen level; NaN where there is none.
        violation: How far the worst-broken SLO is from its limit there.
        status: `STARTED`, `OUT_OF_MEMORY`, `REFUSED` or `UNSUPPORTED`.
        levels: Levels that are measured, lightest first, before an SLO breaks.
        start_s: Time to ready.
        results: What levels came to, in the columns of `RESULTS`; the same result is kept once. The last row is NaN: none. Only of
            scenarios with `every_level`.
        of_level: Row of `results`, by configuration and level.
    """

    value: NDArray[np.float64]
    violation: NDArray[np.float64]
    status: NDArray[np.int64]
    levels: NDArray[np.int64]
    start_s: NDArray[np.float64]
    results: NDArray[np.float64] | None = None
    of_level: NDArray[np.int64] | None = None


def load_truth(scenario: Scenario) -> Truth:
    """The enumeration of a scenario from its file.

    Raises:
        FileNotFoundError: If it has not been made.
    """
    return _load(scenario.name)


@cache
def _load(name: str) -> Truth:
    with np.load(DATA / f"{name}.npz") as kept:
        rows = kept["outcomes"][kept["of_configuration"]]
        results = kept["results"].astype(np.float64) if "results" in kept else None
        of_level = kept["of_level"].astype(np.int64) if "of_level" in kept else None
    value, violation, status, levels, start_s = rows.astype(np.float64).T
    return Truth(value, violation, status.astype(np.int64), levels.astype(np.int64), start_s, results, of_level)


def enumerate_scenario(scenario: Scenario) -> Truth:
    """Measure every configuration."""
    measured: dict[Hashable, tuple[float, ...] | None] = {}
    rows, of_level = [], []
    places: dict[tuple[float, ...], int] = {}
    for params in scenario.configurations():
        row, levels = _row(scenario, params, measured)
        rows.append(row)
        of_level.append([-1 if each is None else places.setdefault(each, len(places)) for each in levels])
    value, violation, status, needed, start_s = np.array(rows, dtype=np.float64).T
    table = np.array([*places, (np.nan,) * len(RESULTS)])
    return Truth(
        value,
        violation,
        status.astype(np.int64),
        needed.astype(np.int64),
        start_s,
        table if scenario.every_level else None,
        np.array(of_level, dtype=np.int64) % len(table) if scenario.every_level else None,
    )


def save(scenario: Scenario, truth: Truth) -> None:
    """Write a scenario's file: the distinct outcomes, and which one each configuration has."""
    table = np.stack([truth.value, truth.violation, truth.status, truth.levels, truth.start_s], axis=1)
    table = np.nan_to_num(table.astype(np.float32), nan=np.nan)
    outcomes, of_configuration = np.unique(table, axis=0, return_inverse=True)
    kept: dict[str, Any] = {"outcomes": outcomes, "of_configuration": of_configuration.ravel().astype(np.uint16)}
    if truth.results is not None and truth.of_level is not None:
        kept |= {"results": truth.results.astype(np.float32), "of_level": truth.of_level.astype(np.uint16)}
    DATA.mkdir(exist_ok=True)
    np.savez_compressed(DATA / f"{scenario.name}.npz", **kept)


def measure_level(scenario: Scenario, params: dict[str, Value], level: int) -> Metrics | None:
    """What a configuration that starts comes to at one level, without noise; None when it refuses the prompts.

    Levels that cannot differ in virtual time are simulated once in the life of the process.
    """
    config, model = engine_config(scenario, params)
    row = _once(scenario, _simulation(scenario, config, model), model, level, _SEEN)
    return None if row is None else metrics_of(scenario, config.world_size, row)


_SEEN: Final[dict[Hashable, tuple[float, ...] | None]] = {}


def _row(
    scenario: Scenario, params: dict[str, Value], measured: dict[Hashable, tuple[float, ...] | None]
) -> tuple[tuple[float, float, int, int, float], list[tuple[float, ...] | None]]:
    """A configuration's outcome when its levels are measured, lightest first, until an SLO breaks; and what its levels come to."""
    config, model = engine_config(scenario, params)
    levels: list[tuple[float, ...] | None] = [None] * len(scenario.levels)
    try:
        simulation = _simulation(scenario, config, model)
    except OutOfGpuMemoryError:
        return (np.nan, 1.0, OUT_OF_MEMORY, 0, FAILED_START_S), levels
    except SimulationError:
        return (np.nan, 1.0, UNSUPPORTED, 0, FAILED_START_S), levels
    start_s = simulation.startup.total_s
    results: list[Metrics | None] = []
    broken = False
    for place, level in enumerate(scenario.levels):
        if broken and not scenario.every_level:
            break
        levels[place] = row = _once(scenario, simulation, model, level, measured)
        if row is None and not broken:
            return (np.nan, 1.0, REFUSED, 0, start_s), levels
        if row is not None and not broken:
            results.append(metrics_of(scenario, config.world_size, row))
            broken = scenario.objective.violation(results[-1] or {}) > 0
    score = score_levels(scenario.objective, results)
    value = np.nan if score.value is None else score.value
    return (value, score.violation, STARTED, len(results), start_s), levels


def _once(
    scenario: Scenario,
    simulation: Simulation,
    model: str,
    level: int,
    measured: dict[Hashable, tuple[float, ...] | None],
) -> tuple[float, ...] | None:
    """A level's result in the columns of `RESULTS`, simulated unless one that cannot differ was."""
    key = (scenario.name, _key(scenario, simulation, model, level))
    if key not in measured:
        result = _measure(scenario, simulation.config, model, level)
        measured[key] = None if result is None else _kept(result)
    return measured[key]


def _kept(result: VirtualResult) -> tuple[float, ...]:
    """A level's result in the columns of `RESULTS`."""
    return (
        result.output_tokens_per_s,
        result.ttft_p50_ms,
        result.ttft_p99_ms,
        result.tpot_p50_ms,
        result.tpot_p99_ms,
    )


def engine_config(scenario: Scenario, params: dict[str, Value]) -> tuple[EngineConfig, str]:
    """The simulated engine's settings for a configuration, and the checkpoint it serves."""
    config = EngineConfig(
        max_batch_size=int(str(params[BATCH])),
        max_num_tokens=int(str(params[TOKENS])),
        max_seq_len=max(2048, scenario.longest_tokens),
        tensor_parallel_size=int(str(params[TP])),
        pipeline_parallel_size=int(str(params[PP])),
        enable_chunked_prefill=params[CHUNKED] is True,
        capacity_policy=CapacityPolicy(str(params[POLICY])),
        cuda_graphs=CudaGraphs(int(str(params[GRAPH_BATCH])), params[GRAPH_PADDING] is True),
        free_gpu_memory_fraction=float(str(params[FRACTION])),
        kv_precision=Precision.FP8 if params[KV_DTYPE] == "fp8" else None,
        noise_ratio=0.0,
    )
    return config, str(params.get(VARIANT, scenario.models[0]))


@cache
def _checkpoint(model: str) -> Checkpoint:
    return load_checkpoint(model)


def _simulation(scenario: Scenario, config: EngineConfig, model: str) -> Simulation:
    return Simulation(config, _checkpoint(model), GPUS[scenario.gpu], gpu_count=scenario.gpu_count)


def _key(scenario: Scenario, simulation: Simulation, model: str, level: int) -> Hashable:
    """What decides a level's result; equal keys give equal results."""
    config, plan = simulation.config, simulation.plan
    stages = config.pipeline_parallel_size
    batch = min(config.max_batch_size, level)
    per_request = -(-scenario.longest_tokens // config.tokens_per_block) + 1
    wanted = per_request * min(level, config.max_batch_size * stages)
    ample = plan.kv_blocks >= wanted
    sizes = tuple(size for size in plan.graph_sizes if size <= batch)
    above = next((size for size in plan.graph_sizes if size > batch), 0)
    return (
        model,
        level,
        config.tensor_parallel_size,
        stages,
        batch,
        min(config.max_num_tokens, round(1.3 * scenario.input_tokens + 1) * batch + batch),
        config.enable_chunked_prefill,
        None if ample else (plan.kv_blocks, config.capacity_policy),
        config.kv_precision,
        (sizes, above) if config.cuda_graphs and config.cuda_graphs.enable_padding else sizes,
        bool(config.cuda_graphs and config.cuda_graphs.enable_padding),
    )


def _measure(scenario: Scenario, config: EngineConfig, model: str, level: int) -> VirtualResult | None:
    load = VirtualLoad(
        concurrency=level,
        requests=max(48, 3 * level),
        input_tokens=scenario.input_tokens,
        output_tokens=scenario.output_tokens,
        warmup_requests=level,
        spread_ratio=0.3,
        overhead_ms=4.0,
        seed=7,
    )
    try:
        return run_virtual_load(_simulation(scenario, config, model), load)
    except PromptTooLongError:
        return None


def metrics_of(scenario: Scenario, gpus: int, row: Sequence[float]) -> Metrics:
    """A level's metrics.

    Args:
        scenario: Says how long the answers are.
        gpus: GPUs of the configuration.
        row: Its row in `RESULTS`.
    """
    rate, ttft_p50_ms, ttft_p99_ms, tpot_p50_ms, tpot_p99_ms = (float(each) for each in row)
    return {
        "output_token_throughput": {"avg": rate},
        PER_GPU: {"avg": rate / gpus},
        PER_USER: {"p50": 1000 / tpot_p50_ms},
        "ttft": {"p50": ttft_p50_ms, "p99": ttft_p99_ms},
        "tpot": {"p50": tpot_p50_ms, "p99": tpot_p99_ms},
        "e2e": {"p50": ttft_p50_ms + tpot_p50_ms * (scenario.output_tokens - 1)},
    }


def _chosen(names: list[str]) -> Iterator[Scenario]:
    return (scenario for scenario in SCENARIOS if not names or scenario.name in names)


def main() -> None:
    """Make the files."""
    for scenario in _chosen(sys.argv[1:]):
        begun_s = time.process_time()
        truth = enumerate_scenario(scenario)
        save(scenario, truth)
        started = truth.status == STARTED
        meets = started & (truth.violation == 0)
        print(
            f"{scenario.name}: {len(truth.value)} configurations, {started.mean():.0%} start, {meets.mean():.0%} meet the SLOs,"
            f" {time.process_time() - begun_s:.0f} s CPU",
            flush=True,
        )


if __name__ == "__main__":
    main()
