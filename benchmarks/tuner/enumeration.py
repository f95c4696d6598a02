"""Every configuration of every scenario, measured once on the simulated engine without noise, and kept in `data/`.

Configurations that cannot differ in virtual time (a batch limit above the load, a KV pool that is never full) are simulated once.

Run: ``python -m benchmarks.tuner.enumeration [scenario ...]`` makes the files again; about 20 minutes for all.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.tuner.scenarios import (
    BATCH,
    CHUNKED,
    FRACTION,
    GRAPH_BATCH,
    GRAPH_PADDING,
    KV_DTYPE,
    PER_GPU,
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
    from collections.abc import Hashable, Iterator

    from numpy.typing import NDArray

    from engines.knob import Value
    from engines.models import Checkpoint
    from sessions.records import Metrics

DATA: Final = Path(__file__).parent / "data"
STARTED, OUT_OF_MEMORY, REFUSED, UNSUPPORTED = range(4)
"""What became of a start; REFUSED: the prompts are longer than the configuration takes."""

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
        levels: Levels that are measured before an SLO breaks.
        start_s: Time to ready.
    """

    value: NDArray[np.float64]
    violation: NDArray[np.float64]
    status: NDArray[np.int64]
    levels: NDArray[np.int64]
    start_s: NDArray[np.float64]


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
    value, violation, status, levels, start_s = rows.astype(np.float64).T
    return Truth(value, violation, status.astype(np.int64), levels.astype(np.int64), start_s)


def enumerate_scenario(scenario: Scenario) -> Truth:
    """Measure every configuration."""
    measured: dict[Hashable, VirtualResult | None] = {}
    rows = [_row(scenario, params, measured) for params in scenario.configurations()]
    columns = np.array(rows, dtype=np.float64).T
    value, violation, status, levels, start_s = columns
    return Truth(value, violation, status.astype(np.int64), levels.astype(np.int64), start_s)


def save(scenario: Scenario, truth: Truth) -> None:
    """Write a scenario's file: the distinct outcomes, and which one each configuration has."""
    table = np.stack([truth.value, truth.violation, truth.status, truth.levels, truth.start_s], axis=1)
    table = np.nan_to_num(table.astype(np.float32), nan=np.nan)
    outcomes, of_configuration = np.unique(table, axis=0, return_inverse=True)
    DATA.mkdir(exist_ok=True)
    np.savez_compressed(
        DATA / f"{scenario.name}.npz", outcomes=outcomes, of_configuration=of_configuration.ravel().astype(np.uint16)
    )


def _row(
    scenario: Scenario, params: dict[str, Value], measured: dict[Hashable, VirtualResult | None]
) -> tuple[float, float, int, int, float]:
    config, model = engine_config(scenario, params)
    try:
        simulation = _simulation(scenario, config, model)
    except OutOfGpuMemoryError:
        return np.nan, 1.0, OUT_OF_MEMORY, 0, FAILED_START_S
    except SimulationError:
        return np.nan, 1.0, UNSUPPORTED, 0, FAILED_START_S
    start_s = simulation.startup.total_s
    results: list[Metrics | None] = []
    for level in scenario.levels:
        key = _key(scenario, simulation, model, level)
        if key not in measured:
            measured[key] = _measure(scenario, config, model, level)
        result = measured[key]
        if result is None:
            return np.nan, 1.0, REFUSED, 0, start_s
        results.append(_metrics(scenario, config, result))
        if scenario.objective.violation(results[-1] or {}) > 0:
            break
    score = score_levels(scenario.objective, results)
    return (np.nan if score.value is None else score.value), score.violation, STARTED, len(results), start_s


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


def _metrics(scenario: Scenario, config: EngineConfig, result: VirtualResult) -> Metrics:
    rate = result.output_tokens_per_s
    return {
        "output_token_throughput": {"avg": rate},
        PER_GPU: {"avg": rate / config.world_size},
        "ttft": {"p50": result.ttft_p50_ms, "p99": result.ttft_p99_ms},
        "tpot": {"p50": result.tpot_p50_ms, "p99": result.tpot_p99_ms},
        "e2e": {"p50": result.ttft_p50_ms + result.tpot_p50_ms * (scenario.output_tokens - 1)},
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
