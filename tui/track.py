"""The samples of one source as the screen draws them: values by column, taken out only where they are looked at."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from sessions.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessions.records import Sample

NAN = math.nan
STALE_NS = 5 * NS_PER_S
"""A sample older than this is not shown as the present."""


class ColumnView(Sequence[float]):
    """The values of one column of samples, taken out only where they are looked at."""

    __slots__ = ("_place", "_samples", "_scale")

    def __init__(self, samples: Sequence[Sample], place: int, scale: float = 1.0) -> None:
        self._samples = samples
        self._place = place
        self._scale = scale

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, place: int) -> float: ...

    @overload
    def __getitem__(self, place: slice) -> list[float]: ...

    def __getitem__(self, place: int | slice) -> float | list[float]:
        if isinstance(place, slice):
            column, scale = self._place, self._scale
            return [sample.values[column] * scale for sample in self._samples[place]]
        return self._samples[place].values[self._place] * self._scale


class SumView(Sequence[float]):
    """The sums of several columns sampled together, made only where they are looked at; as long as the shortest."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Sequence[Sequence[float]]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return min((len(column) for column in self._columns), default=0)

    @overload
    def __getitem__(self, place: int) -> float: ...

    @overload
    def __getitem__(self, place: slice) -> list[float]: ...

    def __getitem__(self, place: int | slice) -> float | list[float]:
        if isinstance(place, slice):
            wanted = slice(*place.indices(len(self)))
            return [sum(values) for values in zip(*(column[wanted] for column in self._columns), strict=True)]
        return sum(column[range(len(self))[place]] for column in self._columns)


@dataclass(frozen=True, slots=True)
class Track:
    """The samples of one source inside the window.

    Attributes:
        name: Such as `gpu0`.
        info: What does not change.
        columns: Place of each column in a sample.
        samples: Samples of the window, oldest first.
        times_ns: Their times.
        newest: The last sample up to the moment looked at, or None.
        at_ns: The moment looked at.
        since_ns: Samples from before do not stand for the present: another server was sampled then.
    """

    name: str
    info: Mapping[str, Any]
    columns: Mapping[str, int]
    samples: tuple[Sample, ...]
    times_ns: tuple[int, ...]
    newest: Sample | None
    at_ns: int
    since_ns: int = 0

    @property
    def lane(self) -> str:
        """Lane of the trial that is sampled, or empty."""
        return self.name.rpartition("/")[0]

    @property
    def place(self) -> str:
        """Number of a GPU, after that of its lane where it has one: `0`, `1/0`."""
        return self.name.replace("gpu", "").removeprefix("lane")

    @property
    def age_ns(self) -> int:
        """How old the newest sample is."""
        return self.at_ns - self.newest.t_ns if self.newest is not None else 1 << 62

    @property
    def stale(self) -> bool:
        """Whether the newest sample is too old to stand for the present."""
        return self.age_ns > STALE_NS or (self.newest is not None and self.newest.t_ns < self.since_ns)

    def value(self, column: str) -> float:
        """The newest number of a column; NaN when there is none, or it is too old."""
        place = self.columns.get(column)
        if place is None or self.newest is None or self.stale:
            return NAN
        return self.newest.values[place]

    def series(self, column: str, scale: float = 1.0) -> tuple[Sequence[int], Sequence[float]]:
        """Times and values of a column over the window; empty when the source has no such column."""
        place = self.columns.get(column)
        return ((), ()) if place is None else (self.times_ns, ColumnView(self.samples, place, scale))

    def rates(self, column: str, span_ns: int = 2 * NS_PER_S) -> tuple[list[int], list[float]]:
        """Growth per second of a counter over the window, each over at least `span_ns`; a fall is a restart: NaN."""
        times_ns: list[int] = []
        rates: list[float] = []
        start: tuple[int, float] | None = None
        for t_ns, value in zip(*self.series(column), strict=True):
            if value != value:
                continue
            if start is None or value < start[1]:
                rate = NAN
            elif t_ns - start[0] >= span_ns:
                rate = (value - start[1]) / ((t_ns - start[0]) / NS_PER_S)
            else:
                continue
            start = (t_ns, value)
            times_ns.append(t_ns)
            rates.append(rate)
        return times_ns, rates

    def recent(self, column: str, span_ns: int) -> list[float]:
        """Known values of a column over the last `span_ns` up to the moment looked at."""
        place = self.columns.get(column)
        if place is None:
            return []
        first = bisect_right(self.times_ns, self.at_ns - span_ns)
        values = [sample.values[place] for sample in self.samples[first:]]
        return [value for value in values if value == value]

    def mean(self, column: str, span_ns: int) -> float:
        """Mean of a column over the last `span_ns` up to the moment looked at; NaN when nothing is there."""
        values = self.recent(column, span_ns)
        return sum(values) / len(values) if values else NAN
