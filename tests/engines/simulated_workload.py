"""The simulated engine in the place of a container's process, for the fake Docker daemon and the fake cluster."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIMULATED = (sys.executable, "-m", "engines.simulated", "--sim-gpu", "h100-sxm", "--sim-time-scale", "0.001")


class SimulatedWorkload:
    """One process of the simulated engine, whose output can be read while it runs.

    Attributes:
        lines: What it has printed.
        exit_code: Its exit status once it has ended.
        ended: Set when it has ended.
    """

    def __init__(self, dialect: str) -> None:
        self.lines: list[str] = []
        self.exit_code: int | None = None
        self.ended = asyncio.Event()
        self._dialect = dialect
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, words: Sequence[str], variables: Mapping[str, str]) -> None:
        """Run it with a container's command and variables."""
        self._process = await asyncio.create_subprocess_exec(
            *SIMULATED,
            "--sim-dialect",
            self._dialect,
            *words,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        await self.ended.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))
        self.exit_code = await process.wait()
        self.ended.set()
