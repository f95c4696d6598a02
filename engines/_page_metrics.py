"""Metrics of servers that serve one Prometheus page: read it, and turn it into a sample."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from engines._http import get
from engines._prometheus import parse_page
from engines.base import NAN
from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

    from engines._prometheus import Page
    from engines.base import EngineSample


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


def known(value: float) -> float:
    """The value, or NaN when it is negative and so no measurement."""
    return value if value >= 0 else NAN
