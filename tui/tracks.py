"""Keeps the samples of the window in memory, so that a refresh reads only what is new.

A short window is kept whole. Of a long one the spans are read that were summed up while recording, each as its lowest, its highest
and its newest value, so that a day of samples is opened as quickly as a minute. A session without spans is read in buckets of
which each gives its newest few samples; buckets that are over are kept.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from sessions.records import Sample
from sessions.rollup import WIDTHS_S
from tui.track import Track

if TYPE_CHECKING:
    from sessions.reader import SessionReader
    from sessions.records import Source
    from sessions.rollup import Span

WHOLE_WINDOW_NS = 20 * 60 * NS_PER_S
"""Longest window of which every sample is kept."""

LATE_NS = 5 * NS_PER_S
"""How late a sample may be written and still be seen without reading the window again."""

FINE_WINDOW_NS = 6 * 3600 * NS_PER_S
"""Longest window drawn from the shortest spans; a longer one is drawn from the longer ones."""

BUCKETS = 300
SAMPLES_PER_BUCKET = 3
_MAX_KEPT_BUCKETS = 8 * BUCKETS


class TrackCache:
    """Samples of one source for a window that mostly moves forward."""

    def __init__(self, reader: SessionReader, source: Source) -> None:
        self.source = source
        self._reader = reader
        self._columns = {name: place for place, name in enumerate(source.columns)}
        self._samples: list[Sample] = []
        self._span_ns = (0, 0)
        self._buckets: dict[tuple[int, int], list[Sample]] = {}
        self._spans_key: tuple[int, int, int] = (-1, -1, -1)
        self._spans: list[Sample] = []

    def track(self, start_ns: int, at_ns: int) -> Track:
        """Samples with `start_ns <= t <= at_ns`, and the newest up to `at_ns`."""
        if at_ns - start_ns <= WHOLE_WINDOW_NS:
            self._keep(start_ns, at_ns)
            samples = tuple(self._samples)
        elif self._reader.has_spans:
            samples = tuple(self._summed(start_ns, at_ns))
        else:
            samples = tuple(self._thinned(start_ns, at_ns))
        summed = at_ns - start_ns > WHOLE_WINDOW_NS
        newest = self._reader.last_sample(self.source.id, at_ns) if summed or not samples else samples[-1]
        times_ns = tuple([sample.t_ns for sample in samples])
        return Track(self.source.name, self.source.info, self._columns, samples, times_ns, newest, at_ns)

    def _keep(self, start_ns: int, at_ns: int) -> None:
        kept_start, kept_end = self._span_ns
        if kept_start <= start_ns <= kept_end <= at_ns:
            again_ns = max(start_ns, kept_end - LATE_NS)
            first = bisect_left(self._samples, start_ns, key=lambda sample: sample.t_ns)
            last = bisect_left(self._samples, again_ns, key=lambda sample: sample.t_ns)
            self._samples = self._samples[first:last] + self._reader.samples(self.source.id, again_ns, at_ns + 1)
        else:
            self._samples = self._reader.samples(self.source.id, start_ns, at_ns + 1)
        self._span_ns = (start_ns, at_ns)

    def _summed(self, start_ns: int, at_ns: int) -> list[Sample]:
        """Spans that are over by the moment, then the samples since."""
        width_s = WIDTHS_S[0] if at_ns - start_ns <= FINE_WINDOW_NS else WIDTHS_S[-1]
        width_ns = width_s * NS_PER_S
        key = (width_s, max(0, start_ns) // width_ns, at_ns // width_ns)
        if key != self._spans_key or at_ns - key[2] * width_ns <= LATE_NS:
            spans = self._reader.spans(self.source.id, key[1] * width_ns, key[2] * width_ns, width_s=width_s)
            self._spans = [sample for span in spans for sample in _as_samples(span)]
            self._spans_key = key
        return self._spans + self._reader.samples(self.source.id, key[2] * width_ns, at_ns + 1)

    def _thinned(self, start_ns: int, at_ns: int) -> list[Sample]:
        width_ns = NS_PER_S
        while width_ns * BUCKETS < at_ns - start_ns:
            width_ns *= 2
        if len(self._buckets) > _MAX_KEPT_BUCKETS:
            self._buckets.clear()
        samples: list[Sample] = []
        for place in range(start_ns // width_ns, at_ns // width_ns + 1):
            samples += self._bucket(width_ns, place, at_ns)
        return samples

    def _bucket(self, width_ns: int, place: int, at_ns: int) -> list[Sample]:
        kept = self._buckets.get((width_ns, place))
        if kept is not None:
            return kept
        end_ns = (place + 1) * width_ns
        samples = self._reader.samples(
            self.source.id, place * width_ns, min(end_ns, at_ns + 1), limit=SAMPLES_PER_BUCKET
        )
        if end_ns + LATE_NS <= at_ns:
            self._buckets[width_ns, place] = samples
        return samples


def _as_samples(span: Span) -> tuple[Sample, Sample, Sample]:
    """A span as samples whose envelope is the span's; in this order a counter never falls."""
    return (
        Sample(span.start_ns, span.low),
        Sample((span.start_ns + span.end_ns) // 2, span.high),
        Sample(span.end_ns - 1, span.last),
    )
