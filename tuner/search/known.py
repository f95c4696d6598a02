"""What a plan tells about hardware, model and load before anything has run; what it does not tell stays unknown."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from engines.gpu.hardware import UnknownGpuError, find_gpu
from engines.models import Checkpoint, ModelShapeError, load_checkpoint
from tuner.search.problem import Hardware, WorkloadShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.plan import Plan

_DRAWS = 256
"""Lengths drawn to learn how long the longest are."""

_LADDER = 8
"""Levels the prior looks at between the lightest and the heaviest."""


def simulated_hardware(arguments: Sequence[str]) -> Hardware | None:
    """The simulated engine's pretend GPUs from its `--sim-` flags; None when there are none or they cannot be read."""
    if not any(word.startswith("--sim-") for word in arguments):
        return None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--sim-gpu", default="h100-sxm")
    parser.add_argument("--sim-gpus", type=int, default=1)
    try:
        flags, _ = parser.parse_known_args(list(arguments))
        return Hardware(find_gpu(flags.sim_gpu), flags.sim_gpus)
    except (UnknownGpuError, argparse.ArgumentError):
        return None


def checkpoint_of(model: str) -> Checkpoint | None:
    """The checkpoint that a model name or folder means; None for one that is unknown."""
    try:
        return load_checkpoint(model)
    except ModelShapeError:
        return None


def workload_shape(plan: Plan) -> WorkloadShape | None:
    """Lengths and levels of a plan's load; None when only the prompts of a file know their lengths, or the load is open."""
    workload = plan.workload
    if workload.dataset is not None or plan.load.kind != "concurrency":
        return None
    rng = np.random.default_rng(workload.seed)
    return WorkloadShape(
        input_tokens=workload.isl.mean_tokens(),
        output_tokens=workload.osl.mean_tokens(),
        levels=_levels(plan),
        longest_input_tokens=int(workload.isl.sample(rng, _DRAWS).max()),
        longest_output_tokens=int(workload.osl.sample(rng, _DRAWS).max()),
    )


def _levels(plan: Plan) -> tuple[float, ...]:
    """The plan's levels, or some between the lightest and the heaviest when the highest load is looked for."""
    values = sorted(set(plan.load.levels))
    if not plan.load.find or values[0] == values[-1]:
        return tuple(values)
    return tuple(float(round(value)) for value in np.geomspace(values[0], values[-1], _LADDER))
