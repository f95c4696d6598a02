"""Opens the fleet that a plan asks for, and finds out which GPUs it has."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from engines.gpu.errors import GpuUnavailable
from engines.gpu.hardware import UnknownGpuError, find_gpu
from tuner.errors import TunerError
from tuner.fleet.inventory import host_gpus, pretend_gpus
from tuner.fleet.local import LocalFleet
from tuner.search.problem import Hardware
from tuner.searching import hardware_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sessions.recorder import Recorder
    from tuner.bench import Bench
    from tuner.fleet.base import Fleet
    from tuner.fleet.inventory import HostGpu

SETTLE_S: Final = 60.0
"""How long GPUs that are in use may take to come free: an ended server lets go of its memory with a delay."""

POLL_S: Final = 1.0


async def open_fleet(bench: Bench, environment: Mapping[str, str]) -> tuple[Fleet, Hardware | None]:
    """The fleet of a plan, and its GPUs as far as they are known.

    Args:
        bench: What every trial shares.
        environment: Variables in force.

    Raises:
        TunerError: If every GPU is in use by somebody else, or the cluster cannot be used.
    """
    plan = bench.plan
    told = hardware_of(plan)
    lanes = plan.fleet.side_by_side
    if plan.fleet.cluster:
        from tuner.fleet.ray_fleet import RayFleet  # Ray is an extra

        fleet = await RayFleet.connect(plan.fleet.cluster, bench, lanes, plan.fleet.wait_nodes)
        return fleet, told or await fleet.hardware()
    if told is not None:
        return LocalFleet(bench, pretend_gpus(told), lanes, environment), told
    if plan.engine.launch != "process" or not plan.gpu.local:
        return LocalFleet(bench, (), lanes, environment), None
    try:
        gpus, left_out = await free_gpus(lambda: host_gpus(wish=environment.get("CUDA_VISIBLE_DEVICES")))
    except GpuUnavailable:
        return LocalFleet(bench, (), lanes, environment), None
    for gpu in left_out:
        _tell_busy(bench.recorder, gpu)
    return LocalFleet(bench, gpus, lanes, environment, restricted=bool(left_out)), _one_type(gpus)


async def free_gpus(
    look: Callable[[], tuple[HostGpu, ...]], settle_s: float = SETTLE_S, poll_s: float = POLL_S
) -> tuple[tuple[HostGpu, ...], tuple[HostGpu, ...]]:
    """The GPUs that nobody uses, and those that somebody does; waits a while when all are in use.

    Args:
        look: Looks at the host's GPUs.
        settle_s: How long to wait.
        poll_s: Between two looks.

    Raises:
        TunerError: If all stay in use.
        GpuUnavailable: If the driver cannot be asked.
    """
    deadline = time.monotonic() + settle_s
    while True:
        gpus = await asyncio.to_thread(look)
        free = tuple(gpu for gpu in gpus if not gpu.busy)
        if free or not gpus:
            return free, tuple(gpu for gpu in gpus if gpu.busy)
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(poll_s)
    users = "; ".join(f"GPU {gpu.index}: {_users(gpu)}" for gpu in gpus)
    raise TunerError(f"every GPU of this host is in use by somebody else ({users}): free one, or tune on another host")


def hardware_from(name: str, count: int) -> Hardware | None:
    """GPUs of one type, for the search's prior; None when the type is unknown, for then nothing is assumed."""
    try:
        return Hardware(find_gpu(name), count)
    except UnknownGpuError:
        return None


def _one_type(gpus: tuple[HostGpu, ...]) -> Hardware | None:
    """The GPUs of a host; None when they are mixed."""
    names = {gpu.name for gpu in gpus}
    return hardware_from(names.pop(), len(gpus)) if len(names) == 1 else None


def _tell_busy(recorder: Recorder, gpu: HostGpu) -> None:
    recorder.event("warning", f"GPU {gpu.index} is in use by somebody else ({_users(gpu)}): it is left alone")


def _users(gpu: HostGpu) -> str:
    pids = ", ".join(map(str, gpu.pids))
    return f"{gpu.used_bytes / 2**30:.1f} GiB in use{f', process {pids}' if pids else ''}"
