"""The jobs on a server that somebody else runs: watch it, or measure it as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.launch.attach import AttachedServer
from tuner.sampling import EngineSampler
from tuner.trial import Order, every_level, run_trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuner.bench import Bench

REACH_TIMEOUT_S = 10.0
CHANGING = ("enqueue", "dequeue", "range", "objective", "prove")
UNCHANGEABLE = "this session searches nothing: it leaves the server's settings as they are"


class WatchJob:
    """Samples a running server and its GPUs until it is told to stop. Sends no load of its own."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def run(self) -> str:
        """Watch.

        Raises:
            Unreachable: If nobody answers at the URL.
        """
        bench = self._bench
        server = await _reach(bench)
        await bench.on_ready()
        info = await bench.engine.inspect(bench.http, server.url)
        bench.recorder.set_meta({"server": {"version": info.version, "model": info.model, **info.effective}})
        bench.recorder.set_worker("running", f"watching {server.url}")
        sampler = EngineSampler(bench.engine, bench.http, server.url, bench.recorder)
        try:
            await bench.control.stop.wait()
        finally:
            await sampler.close()
        return "stopped by the operator"

    def obey(self, kind: str, args: Mapping[str, Any]) -> tuple[str, str] | None:
        """What would change a server is refused; other commands are not ours."""
        return ("refused", UNCHANGEABLE) if kind in CHANGING else None

    def close(self) -> None:
        """Nothing to let go of."""


class BenchJob:
    """Measures a running server at the plan's levels, once."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def run(self) -> str:
        """Measure.

        Raises:
            Unreachable: If nobody answers at the URL.
        """
        bench = self._bench
        server = await _reach(bench)
        bench.recorder.set_worker("running", f"measuring {server.url}")
        result = await run_trial(bench, Order("bench", {}, every_level(bench.plan.load.levels)))
        if result.failure is not None:
            return f"no result: {result.failure.text}"
        return "stopped by the operator" if result.state == "interrupted" else "all levels are measured"

    def obey(self, kind: str, args: Mapping[str, Any]) -> tuple[str, str] | None:
        """What would change a server is refused; other commands are not ours."""
        return ("refused", UNCHANGEABLE) if kind in CHANGING else None

    def close(self) -> None:
        """Nothing to let go of."""


async def _reach(bench: Bench) -> AttachedServer:
    """The server at the plan's URL, once it answers.

    Raises:
        Unreachable: If nobody does.
    """
    server = AttachedServer(bench.plan.engine.url, *bench.engine.attach_paths, bench.engine.health_path)
    await server.wait_ready(bench.http, REACH_TIMEOUT_S)
    return server
