"""The simulated engine started by its adapter and the process launcher, and asked for answers."""

from __future__ import annotations

import sys
from pathlib import Path

import aiohttp

from engines.base import Engine
from engines.knob import Value
from engines.launch.ports import free_port
from engines.launch.process import ProcessLauncher, ProcessServer, StopGrace
from engines.launch.spec import LaunchRequest

MODEL = "llama-3.1-8b"
OUTPUT_TOKENS = 32
_SIMULATED = (sys.executable, "-m", "engines.simulated")
_QUICK = ("--sim-gpu", "h100-sxm", "--sim-time-scale", "0.001")


async def start(engine: Engine, tmp_path: Path, params: dict[str, Value], *arguments: str) -> ProcessServer:
    """Start it with settings and further words."""
    request = LaunchRequest(
        MODEL, params, "127.0.0.1", free_port(), tmp_path, command=_SIMULATED, arguments=(*_QUICK, *arguments)
    )
    return await ProcessLauncher(StopGrace(20.0, 10.0)).start(engine.launch(request), lambda _: None)


async def complete(http: aiohttp.ClientSession, url: str, number: int) -> None:
    """Ask for a whole answer to a prompt of its own."""
    body = {"model": MODEL, "prompt": [100 + number] * 50, "max_tokens": OUTPUT_TOKENS, "ignore_eos": True}
    async with http.post(f"{url}/v1/completions", json=body) as response:
        assert response.status == 200
        await response.read()
