"""The simulated engine's own flags; all begin with ``--sim-`` so that none can collide with a real server's."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engines.gpu.hardware import GpuSpec, UnknownGpuError, find_gpu
from engines.simulated.faults import FAULT_NAMES, FaultError, Faults, parse_faults
from engines.simulated.greedy import LOSS, parse_losses

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """What the pretend host looks like and how it behaves.

    Attributes:
        dialect: server imitated.
        version: its version, None for the dialect's usual one.
        gpu: type of every GPU.
        gpu_count: GPUs of the host.
        time_scale: factor on the start-up time.
        speed: virtual seconds for each real second once ready.
        seed: seed of noise and output lengths.
        dcgm_port: port of the dcgm-exporter endpoint, None for none, 0 for a free one.
        faults: what shall go wrong.
        answer_loss: share of greedy words that a precision changes, where it is not the usual one.
    """

    dialect: str
    version: str | None
    gpu: GpuSpec
    gpu_count: int
    time_scale: float
    speed: float
    seed: int
    dcgm_port: int | None
    faults: Faults
    answer_loss: Mapping[str, float] = field(default_factory=dict)


def _gpu(text: str) -> GpuSpec:
    try:
        return find_gpu(text)
    except UnknownGpuError as error:
        raise argparse.ArgumentTypeError(str(error.args[0])) from error


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be greater than 0")
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return value


def split_options(arguments: list[str], dialects: tuple[str, ...]) -> tuple[SimulationOptions, list[str]]:
    """Take the ``--sim-`` flags out of a command line.

    Args:
        arguments: the command line without the program's name.
        dialects: names that ``--sim-dialect`` accepts, the first one is the default.

    Returns:
        The options, and what is left for the dialect to read.

    Raises:
        SystemExit: code 2 after a usage error on stderr.
    """
    parser = argparse.ArgumentParser(
        prog="python -m engines.simulated",
        allow_abbrev=False,
        add_help=False,
        usage="%(prog)s serve MODEL [server flags] [--sim-... flags]",
    )
    parser.add_argument("--sim-dialect", choices=dialects, default=dialects[0])
    parser.add_argument("--sim-version")
    parser.add_argument("--sim-gpu", type=_gpu, default="h100-sxm")
    parser.add_argument("--sim-gpus", type=_at_least_one, default=1)
    parser.add_argument("--sim-time-scale", type=_positive, default=1.0)
    parser.add_argument("--sim-speed", type=_positive, default=1.0)
    parser.add_argument("--sim-seed", type=int, default=0)
    parser.add_argument("--sim-dcgm-port", type=int)
    parser.add_argument("--sim-fault", action="append", default=[], metavar="|".join(FAULT_NAMES))
    parser.add_argument("--sim-answer-loss", action="append", default=[], metavar=f"{'|'.join(LOSS)}=SHARE")
    known, rest = parser.parse_known_args(arguments)
    misspelt = [argument for argument in rest if argument.startswith("--sim-")]
    if misspelt:
        parser.error(f"no such option: {misspelt[0]}")
    try:
        faults = parse_faults(known.sim_fault)
    except FaultError as error:
        parser.error(f"--sim-fault: {error}")
    try:
        losses = parse_losses(known.sim_answer_loss)
    except ValueError as error:
        parser.error(f"--sim-answer-loss: {error}")
    options = SimulationOptions(
        dialect=known.sim_dialect,
        version=known.sim_version,
        gpu=known.sim_gpu,
        gpu_count=known.sim_gpus,
        time_scale=known.sim_time_scale,
        speed=known.sim_speed,
        seed=known.sim_seed,
        dcgm_port=known.sim_dcgm_port,
        faults=faults,
        answer_loss=losses,
    )
    return options, rest
