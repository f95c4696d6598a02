"""Samplers: GPU readings from a thread of their own, the server's metrics from one poller; both into the session."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import astuple
from typing import TYPE_CHECKING

from engines.errors import EngineError
from engines.gpu.hardware import UnknownGpuError, find_gpu
from sessions.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import aiohttp

    from engines.base import Engine
    from engines.gpu.base import GpuSample, GpuSource
    from engines.sample import EngineSample, MetricsSource
    from sessions.recorder import Recorder

ENGINE_PERIOD_S = 0.5
SLOW_POLL_S = 0.5
"""A poll that takes longer than this is left alone for as long again, so that watching never loads the server."""


def source_name(lane: str, name: str) -> str:
    """Name of a source of samples of a trial that runs on a lane beside others; the first lane has no name."""
    return f"{lane}/{name}" if lane else name


class GpuSampler:
    """Reads a GPU source at a fixed period in a thread, since driver calls have tails of 20 ms."""

    def __init__(self, source: GpuSource, recorder: Recorder, period_s: float, lane: str = "") -> None:
        self._source = source
        self._recorder = recorder
        self._period_s = period_s
        self._ended = threading.Event()
        self._told: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._ids = [
            recorder.add_source(
                "gpu",
                source_name(lane, f"gpu{gpu.index}"),
                {
                    "name": gpu.name,
                    "uuid": gpu.uuid,
                    "memory_bytes": gpu.memory_bytes,
                    "host": gpu.host,
                    "source": gpu.source,
                    "notes": list(gpu.notes),
                    **_peaks(gpu.name),
                },
            )
            for gpu in source.gpus
        ]
        self._thread = threading.Thread(target=self._run, name="gpu-sampler", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many GPUs are sampled."""
        return len(self._ids)

    def attribute(self, pids: Iterable[int]) -> None:
        """Say which processes are the server's: the GPU memory they hold is told apart from others'."""
        self._source.attribute(frozenset(pids))

    async def close(self) -> None:
        """End the thread and let go of the source."""
        self._ended.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            self._sample_on()
        except Exception as error:  # whatever a driver raises: samples end, and the session says so  # noqa: BLE001
            self._tell(f"GPU samples end here: {type(error).__name__}: {error}")
        finally:
            self._source.close()

    def _sample_on(self) -> None:
        due_s = time.monotonic()
        while not self._ended.is_set():
            t_ns = self._recorder.clock.now()
            samples = self._source.sample()
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
                self._loop.call_soon_threadsafe(self._record, t_ns, samples, self._source.problems())
            due_s = max(due_s + self._period_s, time.monotonic())
            self._ended.wait(due_s - time.monotonic())

    def _tell(self, problem: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
            self._loop.call_soon_threadsafe(self._record, 0, (), (problem,))

    def _record(self, t_ns: int, samples: Sequence[GpuSample], problems: Sequence[str]) -> None:
        if self._ended.is_set():
            return
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                self._recorder.event("warning", problem)
        for source, sample in zip(self._ids if samples else (), samples, strict=True):
            self._recorder.add_sample(source, t_ns, astuple(sample))


def _peaks(name: str) -> dict[str, float]:
    """What the GPU could do at most, for MFU and MBU; nothing for one whose data sheet we do not have."""
    try:
        spec = find_gpu(name)
    except UnknownGpuError:
        return {}
    return {"peak_bytes_s": spec.hbm_bytes_per_s, "peak_flops_s": spec.bf16_flops_per_s}


class EngineSampler:
    """The one poller of a server's metrics while that server runs.

    Attributes:
        line: Takes the server's log lines, where its metrics can be told from them; returns whether it used one.
    """

    def __init__(
        self, engine: Engine, http: aiohttp.ClientSession, url: str, recorder: Recorder, lane: str = ""
    ) -> None:
        self._recorder = recorder
        facts = {"name": engine.name, "title": engine.title}
        self._source = recorder.add_source("engine", source_name(lane, "engine"), facts)
        metrics = engine.metrics(http, url)
        self.line: Callable[[str], bool] | None = getattr(metrics, "line", None)
        self._task = asyncio.create_task(self._run(metrics))

    async def close(self) -> None:
        """End the poller.

        Raises:
            SessionError: If what it read could not be recorded.
        """
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self, metrics: MetricsSource) -> None:
        told = ""
        while True:
            started_s = time.monotonic()
            try:
                self._record(await metrics.poll())
                told = ""
            except EngineError as error:
                if str(error) != told:
                    told = str(error)
                    self._recorder.log("worker", "warning", f"metrics: {told}")
            except SessionError:
                raise
            except Exception as error:  # a page nobody foresaw: what is measured does not hang on it  # noqa: BLE001
                text = f"a fault in trtune: {type(error).__name__}: {error}; this server's are read no more"
                self._recorder.log("worker", "error", f"metrics: {text}")
                return
            took_s = time.monotonic() - started_s
            await asyncio.sleep(took_s if took_s > SLOW_POLL_S else ENGINE_PERIOD_S - took_s)

    def _record(self, samples: Sequence[tuple[int, EngineSample]]) -> None:
        for monotonic_ns, sample in samples:
            self._recorder.add_sample(self._source, self._recorder.clock.from_monotonic(monotonic_ns), astuple(sample))
