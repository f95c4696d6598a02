"""Metrics of servers that serve one Prometheus page: read it, and turn it into a sample."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines._http import get
from engines._prometheus import parse_page
from engines.errors import EngineError
from engines.sample import NAN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

    from engines._prometheus import Page
    from engines.sample import EngineSample


class PageMetrics:
    """One sample for each read of a page."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, read: Callable[[Page], EngineSample], hint: str, title: str
    ) -> None:
        """Name the page.

        Args:
            http: Client.
            url: Address of the page.
            read: Turns a page into a sample; may remember the page before for what is told as a sum.
            hint: What to do when there is no page.
            title: The server's name, for errors.
        """
        self._http = http
        self._url = url
        self._read = read
        self._hint = hint
        self._title = title

    async def poll(self) -> Sequence[tuple[int, EngineSample]]:
        """One sample of now.

        Raises:
            Unreachable: If nobody answers.
            EngineError: If there is no page, or it is another server's.
        """
        answer = await get(self._http, self._url)
        now_ns = time.monotonic_ns()
        if answer.status != 200:
            raise EngineError(f"{answer.url} answers {answer.status}; {self._hint}")
        sample = self._read(parse_page(answer.text(), answer.url))
        if math.isnan(sample.running) and math.isnan(sample.output_tokens_total):
            raise EngineError(f"{answer.url} has none of {self._title}'s metrics; {self._hint}")
        return ((now_ns, sample),)


class RecentRatio:
    """Ratio of what two counters grew by since the page before; keeps its last value while nothing happens.

    Servers tell times as sum and count since their start: the mean over all of it hides what is happening now.
    """

    def __init__(self) -> None:
        self._part = NAN
        self._whole = NAN
        self._ratio = NAN

    def update(self, part: float, whole: float) -> float:
        """The ratio with these counter values; NaN before the second page. Counters that fall are a restart."""
        grown_part, grown_whole = part - self._part, whole - self._whole
        if grown_whole > 0 and grown_part >= 0:
            self._ratio = grown_part / grown_whole
        elif grown_whole < 0 or grown_part < 0:
            self._ratio = NAN
        self._part, self._whole = part, whole
        return self._ratio


@dataclass(frozen=True, slots=True)
class SplitNames:
    """Histograms that tell where the time of a request went; each by its names, newest first, none when it is not told.

    Attributes:
        queue: From arrival to the first iteration.
        first_token: From arrival to the first token.
        whole: From arrival to the last token.
        prefill: From the first iteration to the first token.
        decode: From the first token to the last.
        per_finished: Whether means are over the requests that `whole` counts: TensorRT-LLM leaves zeros out of its counts.
    """

    queue: tuple[str, ...] = ()
    first_token: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    prefill: tuple[str, ...] = ()
    decode: tuple[str, ...] = ()
    per_finished: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """Mean times of the requests since the page before, in ms. NaN: not told."""

    queue_ms: float = NAN
    prefill_ms: float = NAN
    decode_ms: float = NAN


class LatencySplit:
    """Queue, prefill and decode times; what a server does not tell is taken from what remains of TTFT and E2E latency."""

    def __init__(self, names: SplitNames) -> None:
        self._names = names
        self._means = {part: RecentRatio() for part in ("queue", "first_token", "whole", "prefill", "decode")}

    def update(self, page: Page) -> Split:
        """The times with this page."""
        queue, first_token, whole, prefill, decode = (self._mean_ms(page, part) for part in self._means)
        return Split(
            queue_ms=queue,
            prefill_ms=max(first_token - queue, 0.0) if math.isnan(prefill) else prefill,
            decode_ms=max(whole - first_token, 0.0) if math.isnan(decode) else decode,
        )

    def _mean_ms(self, page: Page, part: str) -> float:
        names: tuple[str, ...] = getattr(self._names, part)
        counted = self._names.whole if self._names.per_finished else names
        total = page.total(*(f"{name}_sum" for name in names))
        return 1000.0 * self._means[part].update(total, page.total(*(f"{name}_count" for name in counted)))


def replicas(page: Page, *names: str) -> float:
    """Sum over the data-parallel replicas of one server; the other ranks of a replica say the same. NaN: not told.

    vLLM labels its replicas `engine`, SGLang `dp_rank`.
    """
    for name in names:
        largest: dict[tuple[str, str], float] = {}
        for series in page.series.get(name, ()):
            replica = (series.labels.get("engine", ""), series.labels.get("dp_rank", ""))
            largest[replica] = max(series.value, largest.get(replica, -math.inf))
        if largest:
            return known(math.fsum(largest.values()))
    return NAN


def known(value: float) -> float:
    """The value, or NaN when it is negative and so no measurement."""
    return value if value >= 0 else NAN
