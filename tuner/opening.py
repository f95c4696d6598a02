"""Opens what a trial works with: clients, load generator, GPU samplers, the server's upkeep; closed with the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from engines.registry import get_engine
from tuner.bench import Bench
from tuner.load.generator import LoadGenerator
from tuner.server import auth_headers
from tuner.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from sessions.recorder import Recorder
    from tuner.control import Control
    from tuner.gpu_watch import GpuWatch
    from tuner.load.process import OwnersEnd
    from tuner.plan import Plan
    from tuner.server import Places


async def open_bench(
    stack: AsyncExitStack,
    plan: Plan,
    recorder: Recorder,
    control: Control,
    places: Places,
    gpus: GpuWatch,
    *,
    lane: str = "",
) -> Bench:
    """What the trials of a worker work with.

    Args:
        stack: Closes it.
        plan: What is to be run.
        recorder: The session.
        control: What the operator wants.
        places: Folders, ports and GPUs of the servers.
        gpus: Samples GPUs.
        lane: Name of the lane among several; empty for the only one.
    """
    further: list[Callable[[], OwnersEnd]] = []
    if plan.load.hosts:
        from tuner.fleet.load_hosts import open_load_hosts  # Ray is an extra

        further = await open_load_hosts(plan.fleet.cluster, plan.load.hosts)
    engine = get_engine(plan.engine.name)
    await stack.enter_async_context(gpus)
    http = await stack.enter_async_context(aiohttp.ClientSession(headers=auth_headers(plan.engine)))

    async def on_ready() -> None:
        await gpus.open()

    upkeep = Upkeep(
        plan=plan,
        engine=engine,
        recorder=recorder,
        control=control,
        http=http,
        places=places,
        on_ready=on_ready,
        keeps=not lane,
    )
    stack.push_async_callback(upkeep.close)
    return Bench(
        plan=plan,
        engine=engine,
        objectives=plan.to_objectives(),
        recorder=recorder,
        control=control,
        http=http,
        load=await stack.enter_async_context(LoadGenerator(further)),
        upkeep=upkeep,
        on_ready=on_ready,
        watched_gpus=lambda: gpus.count,
        lane=lane,
    )
