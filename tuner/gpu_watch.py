"""Which GPUs are sampled beside a server, and when: from the start, or once the server that holds them is ready."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from engines.gpu import NoGpu, open_gpu_source
from tuner.sampling import GpuSampler

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from engines.gpu.base import GpuInfo, GpuSample, GpuSource
    from sessions.recorder import Recorder
    from tuner.plan import GpuPlan
    from tuner.server import Places


class OnlyGpus:
    """A source of GPU samples, cut down to some of its GPUs."""

    def __init__(self, source: GpuSource, indices: Collection[int]) -> None:
        """Take a source and the indices to keep, in the source's own count."""
        self._source = source
        self._places = [place for place, gpu in enumerate(source.gpus) if gpu.index in indices]

    @property
    def gpus(self) -> tuple[GpuInfo, ...]:
        """The GPUs kept."""
        return tuple(self._source.gpus[place] for place in self._places)

    def sample(self) -> tuple[GpuSample, ...]:
        """The GPUs kept, now."""
        samples = self._source.sample()
        return tuple(samples[place] for place in self._places)

    def attribute(self, pids: frozenset[int]) -> None:
        """Say which processes are the server's."""
        self._source.attribute(pids)

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the source, in words."""
        return self._source.problems()

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()


class GpuWatch:
    """Samples GPUs into a session from the moment they can be had."""

    def __init__(
        self,
        wish: GpuPlan,
        places: Places,
        recorder: Recorder,
        *,
        only: Collection[int] = (),
        lane: str = "",
        here: bool = True,
        own_page: str = "",
        elsewhere: bool = False,
    ) -> None:
        """Prepare.

        Args:
            wish: Where samples come from.
            places: Fills the port into the exporter's address.
            recorder: Where they go.
            only: Indices of the GPUs to sample; empty: all.
            lane: Name of the lane on which this trial runs beside others.
            here: Whether this host's GPUs are those of the server.
            own_page: Address at which the server itself tells about its GPUs, where the plan names no exporter.
            elsewhere: Whether the servers run on other hosts, so that there is nothing to sample here.
        """
        self._wish, self._places, self._recorder, self._only, self._lane = wish, places, recorder, only, lane
        self._here, self._own_page, self._elsewhere = here, own_page, elsewhere
        self._sampler: GpuSampler | None = None

    async def __aenter__(self) -> Self:
        if not self._elsewhere:
            self._recorder.set_meta({"gpu_note": await self.open()})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sampler is not None:
            await self._sampler.close()

    @property
    def count(self) -> int:
        """How many GPUs are sampled."""
        return self._sampler.count if self._sampler is not None else 0

    def attribute(self, pids: Iterable[int]) -> None:
        """Say which processes are the server's: the GPU memory they hold is told apart from others'."""
        if self._sampler is not None:
            self._sampler.attribute(pids)

    async def open(self) -> str:
        """Begin to sample, unless it has begun; returns why there is nothing to sample, or an empty text."""
        if self._sampler is not None or self._elsewhere:
            return ""
        url = self._places.fill(self._wish.dcgm_url) or self._own_page
        of_server = url != self._wish.dcgm_url  # its own page, or on a port that it is given at its start
        source = await asyncio.to_thread(open_gpu_source, url or None, self._here, of_server=of_server)
        if isinstance(source, NoGpu):
            return source.reason
        self._recorder.set_meta({"gpu_note": ""})
        chosen = OnlyGpus(source, self._only) if self._only else source
        self._sampler = GpuSampler(chosen, self._recorder, self._wish.period_s, self._lane)
        return ""
