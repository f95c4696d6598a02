"""One reading of a running server, for scripts."""

from __future__ import annotations

import asyncio
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from engines.gpu import NoGpu, open_gpu_source
from engines.registry import get_engine
from engines.sample import EngineSample
from sessions.text import clean_line
from trtune.start import runs_simulated
from tuner.server import auth_headers

if TYPE_CHECKING:
    from engines.base import ServerInfo
    from tuner.plan import Plan

READING_S = 5.0
"""How long metrics that need a second look (rates, iteration records) may take."""


def print_once(plan: Plan, *, json: bool) -> int:
    """Print what the server and its GPUs say now; returns the exit status.

    Raises:
        Unreachable: If nobody answers.
    """
    info, sample = asyncio.run(_ask(plan))
    simulated = runs_simulated(plan)
    gpus, gpu_note = _gpus(plan)
    facts = {
        "server": {
            "url": plan.engine.url,
            "version": info.version,
            "model": info.model,
            "simulated": simulated,
            "effective": dict(info.effective),
        },
        "engine": _known(asdict(sample)),
        "gpus": gpus,
        "gpu_note": gpu_note,
    }
    if json:
        print(orjson.dumps(facts).decode())  # noqa: T201
        return 0
    word = "  (SIMULATED: every number is pretended)" if simulated else ""
    print(clean_line(f"{plan.engine.url}  {plan.engine.name} {info.version}  {info.model}{word}"))  # noqa: T201
    known = _known(asdict(sample))
    if not known:
        print(f"  no metrics within {READING_S:g} s: the server is idle, or runs without metrics")  # noqa: T201
    for name, value in known.items():
        print(f"  {name:22} {value:g}")  # noqa: T201
    for gpu in gpus:
        print(clean_line("  " + "  ".join(f"{name} {value}" for name, value in gpu.items())))  # noqa: T201
    if gpu_note:
        print(clean_line(f"  GPUs: {gpu_note}"))  # noqa: T201
    return 0


async def _ask(plan: Plan) -> tuple[ServerInfo, EngineSample]:
    engine = get_engine(plan.engine.name)
    async with aiohttp.ClientSession(headers=auth_headers(plan.engine)) as http:
        info = await engine.inspect(http, plan.engine.url)
        metrics = engine.metrics(http, plan.engine.url)
        deadline = asyncio.get_running_loop().time() + READING_S
        sample = EngineSample()
        while asyncio.get_running_loop().time() < deadline:
            read = await metrics.poll()
            if read:
                sample = read[-1][1]
                break
            await asyncio.sleep(0.25)
    return info, sample


def _gpus(plan: Plan) -> tuple[list[dict[str, Any]], str]:
    """What the GPUs say, and why not more."""
    source = open_gpu_source(plan.gpu.dcgm_url or None, plan.gpu.local)
    if isinstance(source, NoGpu):
        return [], source.reason
    try:
        samples = source.sample()
        told = [
            {"index": gpu.index, "name": gpu.name, "host": gpu.host, **_known(asdict(sample))}
            for gpu, sample in zip(source.gpus, samples, strict=True)
        ]
        return told, "; ".join(source.problems())
    finally:
        source.close()


def _known(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
