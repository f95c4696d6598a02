"""The strategies that are compared: the search with a right, a wrong and no prior, and Optuna's samplers behind the same filter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmarks.tuner.scenarios import BATCH, GRAPH_BATCH, TOKENS, TP
from engines.gpu.hardware import GPUS
from engines.models import load_checkpoint
from engines.trtllm import ENGINE
from tuner.search.prior import Roofline
from tuner.search.problem import Hardware, WorkloadShape
from tuner.search.search import STUDY_NAME, Search
from tuner.search.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna.storages import BaseStorage

    from benchmarks.tuner.scenarios import Scenario
    from engines.knob import Value
    from tuner.search.objective import Objective
    from tuner.search.problem import Prior


@dataclass(frozen=True, slots=True)
class Arm:
    """One strategy.

    Attributes:
        name: As printed.
        sampler: `roofline` or one of Optuna's.
        prior: What kind of prior it has.
        filtered: Whether configurations are checked before they are started.
        quirks: Whether the surface has hidden quirks, and the prior's constants are off by up to half.
        every_level: Whether a start measures its levels lightest first until an SLO breaks; else from the incumbent's level
            only as far as it can still win.
        starts: Starts after which a run ends.
        seeds: Runs of each scenario.
    """

    name: str
    sampler: str = "roofline"
    prior: Literal["roofline", "scrambled", "none"] = "roofline"
    filtered: bool = True
    quirks: bool = False
    every_level: bool = False
    starts: int = 24
    seeds: int = 20


ARMS = (
    Arm("roofline"),
    Arm("roofline, scrambled prior", prior="scrambled"),
    Arm("roofline, no prior", prior="none"),
    Arm("roofline, quirks", quirks=True),
    Arm("roofline, scrambled, quirks", prior="scrambled", quirks=True),
    Arm("roofline, no prior, quirks", prior="none", quirks=True),
    Arm("TPE, same filter", sampler="tpe", prior="none", every_level=True, starts=40),
    Arm("TPE with constraints, no filter", sampler="tpe", prior="none", filtered=False, every_level=True, starts=40),
    Arm("TPE with constraints, no filter, our levels", sampler="tpe", prior="none", filtered=False, starts=40),
    Arm("NSGA-II, same filter", sampler="nsga2", prior="none", every_level=True, starts=40),
    Arm("random, same filter", sampler="random", prior="none", every_level=True, starts=40),
)


class Scrambled:
    """A prior that is wrong on purpose: it estimates another configuration, with each knob's values mixed up."""

    def __init__(self, roofline: Roofline, seed: int) -> None:
        self._roofline = roofline
        self._seed = seed

    def covers(self, objective: Objective) -> bool:
        """As the right one."""
        return self._roofline.covers(objective)

    def utility(self, settings: Settings, objective: Objective) -> NDArray[np.float64]:
        """What the right one thinks of another configuration."""
        return self._roofline.utility(self._mixed(settings), objective)

    def best_level(self, settings: Settings, objective: Objective) -> NDArray[np.float64]:
        """As above."""
        return self._roofline.best_level(self._mixed(settings), objective)

    def _mixed(self, settings: Settings) -> Settings:
        columns = {}
        for meaning, column in settings.columns.items():
            # The order of the hash of each value, which is the same whichever rows are looked at.
            salt = np.random.default_rng((self._seed, sum(map(ord, meaning)))).integers(1, 1 << 30)
            values = np.array(_VALUES.get(str(meaning), ()))
            if not len(values):
                columns[meaning] = column
                continue
            mixed = values[np.random.default_rng(int(salt)).permutation(len(values))]
            places = np.abs(column[:, None] - values[None, :]).argmin(axis=1)
            columns[meaning] = mixed[places]
        return Settings(columns, settings.rows, settings.names)


_VALUES = {
    "tensor_parallel": (1, 2, 4, 8),
    "pipeline_parallel": (1, 2),
    "batch": (8, 16, 32, 64, 128, 256),
    "token_budget": (1024, 2048, 4096, 8192, 16384),
    "chunked": (0, 1),
    "policy": (0, 1),
    "free_memory_share": (0.8, 0.9, 0.95),
    "kv_precision": (0, 1),
    "weight_precision": (0, 1, 2),
    "graph_batch": (8, 32, 128, 256),
    "graph_padding": (0, 1),
}
"""Values that take each other's place in the scrambled prior, by meaning."""


def make_search(
    arm: Arm,
    scenario: Scenario,
    seed: int,
    storage: BaseStorage | None = None,
    study_name: str = STUDY_NAME,
    objectives: Sequence[Objective] = (),
) -> Search:
    """The search of one run; its study lives in memory unless a storage is given.

    Args:
        arm: The strategy.
        scenario: The problem.
        seed: Of the run.
        storage: Where the study lives.
        study_name: Its name there.
        objectives: Several objectives in the place of the scenario's own.
    """
    hardware = Hardware(GPUS[scenario.gpu], scenario.gpu_count)
    workload = WorkloadShape(
        scenario.input_tokens,
        scenario.output_tokens,
        tuple(float(level) for level in scenario.levels),
        round(1.3 * scenario.input_tokens),
        round(1.3 * scenario.output_tokens),
    )
    checkpoint = load_checkpoint(scenario.models[0])
    believed = _off_by_half(hardware, seed) if arm.quirks else hardware
    prior: Prior | Literal["roofline", "none"] = "none"
    if arm.prior != "none":
        right = Roofline(believed, checkpoint, workload)
        prior = right if arm.prior == "roofline" else Scrambled(right, seed)
    return Search(
        scenario.knobs(),
        objectives or scenario.objective,
        hardware=hardware if arm.filtered else None,
        model=checkpoint if arm.filtered else None,
        workload=workload,
        baseline=baseline_of(scenario),
        conflicts=ENGINE.conflicts if arm.filtered else lambda _params: None,
        advice=ENGINE.starting_points(max(scenario.levels)) if arm.filtered else (),
        prior=prior,
        sampler=arm.sampler,
        seed=seed,
        storage=storage,
        study_name=study_name,
    )


def baseline_of(scenario: Scenario) -> dict[str, Value]:
    """The server's defaults with all GPUs, on the scenario's grid."""
    values = scenario.values()
    wanted: dict[str, Value] = {knob.name: knob.default for knob in scenario.knobs()}
    wanted |= {TP: scenario.gpu_count, BATCH: 256, GRAPH_BATCH: 128, TOKENS: 8192}
    return {name: value if value in values[name] else values[name][-1] for name, value in wanted.items()}


def _off_by_half(hardware: Hardware, seed: int) -> Hardware:
    """The hardware as a prior with wrong constants sees it."""
    rng = np.random.default_rng((seed, 3))
    factors = np.exp(rng.uniform(-np.log(1.5), np.log(1.5), 3))
    gpu = hardware.gpu
    compute, memory, link = (float(factor) for factor in factors)
    return Hardware(
        replace(
            gpu,
            bf16_flops_per_s=gpu.bf16_flops_per_s * compute,
            fp8_flops_per_s=gpu.fp8_flops_per_s * compute if gpu.fp8_flops_per_s else None,
            fp4_flops_per_s=gpu.fp4_flops_per_s * compute if gpu.fp4_flops_per_s else None,
            hbm_bytes_per_s=gpu.hbm_bytes_per_s * memory,
            link_bytes_per_s=gpu.link_bytes_per_s * link,
        ),
        hardware.gpu_count,
    )
