"""How well a window's metrics are known: a block bootstrap over its raw requests.

The measuring window is cut into blocks of equal time. Whole blocks are drawn again and again with replacement, and each
draw gives every metric anew, so that requests that influence each other stay together (Carlstein 1986). Blocks are made longer
as long as neighbouring ones are alike. The spread of the draws, with Student's t for the number of blocks, is the interval. It
holds the noise within a run; how much one start of a server differs from the next it cannot know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sessions.batches import are_correlated, student_t
from sessions.clock import NS_PER_S
from sessions.metrics import chunk_gaps, meets, request_values
from sessions.requests import ABSENT, RequestStatus
from sessions.rows import MAX_TIME_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from sessions.requests import RequestTable
    from sessions.slo import Slo

METHOD = "95 % intervals by a block bootstrap of the measuring window (blocks of equal time, Student's t)"
CONFIDENCE = 0.95
DRAWS = 400
FEWEST_BLOCKS = 8
MOST_BLOCKS = 32
FEWEST_PER_BLOCK = 2
FEWEST_BEYOND = 5
"""Values that must lie beyond a percentile for its interval to mean something."""

MOST_BINS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """A distribution, cut into blocks.

    Attributes:
        value: All values, ascending.
        block: Block of each.
        weight: How often each counts.
    """

    value: NDArray[np.float64]
    block: NDArray[np.int64]
    weight: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """A metric that is a sum over another, by block: tokens over seconds, failures over requests."""

    above: NDArray[np.float64]
    below: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """A metric in each of DRAWS draws.

    Attributes:
        values: The metric.
        blocks: Independent blocks they were made of.
    """

    values: NDArray[np.float64]
    blocks: int

    def half_width(self) -> float:
        """Half the length of the interval around the estimate; infinite when it cannot be told."""
        return self.standard_error() * student_t(CONFIDENCE, self.blocks - 1)

    def standard_error(self, *, on_logs: bool = False) -> float:
        """Spread of the estimate, or of its logarithm; draws with replacement show it too small by a known factor."""
        known = self.values[np.isfinite(self.values)]
        if known.size < DRAWS:
            return math.inf
        spread = float((np.log(known) if on_logs else known).std())
        return spread * math.sqrt(self.blocks / (self.blocks - 1))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A measuring window of one level, cut into blocks.

    Attributes:
        blocks: How many, a power of two; 0 when there are too few requests for any interval.
        distributions: Latencies and lengths by metric.
        ratios: Rates and shares by metric.
        long: Whether a block is at least as long as a request; in shorter ones the ends of requests come in bursts, and rates
            have no interval.
    """

    blocks: int
    distributions: Mapping[str, Values]
    ratios: Mapping[str, Ratio]
    long: bool = True

    def value(self, metric: str, stat: str) -> float | None:
        """The metric over the whole window, as `sessions.metrics.summarise` has it but for interpolation."""
        weights = np.ones((1, max(self.blocks, 1)))
        drawn = self._statistic(metric, stat, weights)
        return None if drawn is None or math.isnan(drawn[0]) else float(drawn[0])

    def draws(self, metric: str, stat: str, seed: int = 0) -> Draws | None:
        """The metric in each of DRAWS draws of blocks; None where an interval would say nothing."""
        if self.blocks < FEWEST_BLOCKS or not self._is_known_well(metric, stat):
            return None
        rng = np.random.default_rng(seed)
        joined = self._blocks_to_join(metric)
        count = self.blocks // joined
        weights = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)
        drawn = self._statistic(metric, stat, np.repeat(weights, joined, axis=1))
        return None if drawn is None else Draws(drawn, count)

    def _blocks_to_join(self, metric: str) -> int:
        """How many neighbouring blocks must be one, for blocks to be independent of each other."""
        joined = 1
        while self.blocks // joined >= 2 * FEWEST_BLOCKS:
            rows = np.repeat(np.eye(self.blocks // joined), joined, axis=1)
            means = self._statistic(metric, "avg", rows)
            if means is None or not np.isfinite(means).all() or not are_correlated(means):
                break
            joined *= 2
        return joined

    def count(self, metric: str) -> int:
        """Values of a distribution in the window."""
        values = self.distributions.get(metric)
        return 0 if values is None else int(values.weight.sum())

    def _is_known_well(self, metric: str, stat: str) -> bool:
        if metric in self.ratios:
            return self.long
        if stat == "avg":
            return self.count(metric) > 0
        rank = _rank(stat)
        return rank is not None and self.count(metric) * min(rank, 1 - rank) >= FEWEST_BEYOND

    def _statistic(self, metric: str, stat: str, weights: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The metric under each row of block weights, or None when the window does not have it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if metric in self.ratios:
                ratio = self.ratios[metric]
                shares: NDArray[np.float64] = (weights @ ratio.above) / (weights @ ratio.below)
                return shares
            values = self.distributions.get(metric)
            if values is None or not values.value.size:
                return None
            if stat == "avg":
                sums = np.bincount(values.block, values.value * values.weight, minlength=weights.shape[1])
                counts = np.bincount(values.block, values.weight, minlength=weights.shape[1])
                means: NDArray[np.float64] = (weights @ sums) / (weights @ counts)
                return means
        rank = _rank(stat)
        return None if rank is None else _quantiles(values, rank, weights)


def _rank(stat: str) -> float | None:
    return float(stat[1:]) / 100 if stat.startswith("p") and stat[1:].isdecimal() else None


def _quantiles(values: Values, rank: float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quantile under each row of block weights; of many values, to one of MOST_BINS places."""
    count = values.value.size
    bins = min(count, MOST_BINS)
    place = np.arange(count) * bins // count
    table = np.zeros((weights.shape[1], bins))
    np.add.at(table, (values.block, place), values.weight)
    last = np.searchsorted(place, np.arange(bins), side="right") - 1
    risen = weights @ np.cumsum(table, axis=1)
    wanted = rank * risen[:, -1:]
    chosen = np.minimum((risen < wanted).sum(axis=1), bins - 1)
    quantiles: NDArray[np.float64] = values.value[last][chosen]
    return quantiles


def cut_window(table: RequestTable, window_start_ns: int, window_end_ns: int, slos: Sequence[Slo] = ()) -> Window:
    """Cut the window of a level into blocks; what counts is what `sessions.metrics.summarise` counts.

    Args:
        table: Requests of the level.
        window_start_ns: Session time at which the window opened.
        window_end_ns: Session time at which it closed.
        slos: Limits for goodput.
    """
    length_ns = window_end_ns - window_start_ns
    ended = table.select((table.end_ns > window_start_ns) & (table.end_ns <= window_end_ns))
    good = ended.select(ended.status == RequestStatus.OK)
    if not 0 < length_ns <= MAX_TIME_NS or not len(good):
        return Window(0, {}, {})
    blocks = _block_count(good, length_ns)
    places = max(blocks, 1)

    def block_of(times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.clip((times_ns - window_start_ns) * places // length_ns, 0, places - 1)

    distributions = {name: _sorted(*parts) for name, parts in _distributions(good, block_of(good.end_ns)).items()}
    sums = _sums(table, ended, good, block_of, places, window_start_ns, window_end_ns)
    seconds = np.full(places, length_ns / NS_PER_S / places)
    tokens_in, tokens_out, done, all_ended, judged, sent = sums
    ratios = {
        "output_token_throughput": Ratio(tokens_out, seconds),
        "input_token_throughput": Ratio(tokens_in, seconds),
        "total_token_throughput": Ratio(tokens_in + tokens_out, seconds),
        "request_throughput": Ratio(done, seconds),
        "sent_rate": Ratio(sent, seconds),
        "error_ratio": Ratio(judged - done, judged),
    }
    if slos:
        kept = meets(request_values(good), slos).astype(np.float64)
        met = np.bincount(block_of(good.end_ns), kept, places).astype(np.float64)
        ratios |= {"goodput": Ratio(met, seconds), "goodput_ratio": Ratio(met, all_ended)}
    return Window(blocks, distributions, ratios, long=length_ns >= FEWEST_BLOCKS * _request_ns(good))


def _block_count(good: RequestTable, length_ns: int) -> int:
    """Blocks at least as long as a request where the window allows it, each with a few requests; 0: too few for any."""
    by_length = max(int(length_ns / _request_ns(good)), FEWEST_BLOCKS)
    blocks = min(by_length, len(good) // FEWEST_PER_BLOCK, MOST_BLOCKS)
    return 1 << (blocks.bit_length() - 1) if blocks >= FEWEST_BLOCKS else 0  # a power of two can be halved


def _request_ns(good: RequestTable) -> float:
    """Usual length of a request."""
    return max(float(np.median(good.end_ns - good.sent_ns)), 1.0)


def _distributions(
    good: RequestTable, block: NDArray[np.int64]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]]:
    values = request_values(good)
    gaps = chunk_gaps(good)
    sure = gaps.certain & (gaps.tokens > 0)
    ones = np.ones(len(good))
    latencies = {
        "ttft": np.where(values.ttft_certain, values.ttft_ms, np.nan),
        "tpot": values.tpot_ms,
        "e2e": values.e2e_ms,
        "output_token_throughput_per_user": values.tokens_per_s,
        "isl": np.where(good.isl_tokens == ABSENT, np.nan, good.isl_tokens),
        "osl": np.where(good.osl_tokens == ABSENT, np.nan, good.osl_tokens),
    }
    gap_block = block[gaps.row[sure]]
    return {
        **{name: (data, block, ones) for name, data in latencies.items()},
        "itl": (gaps.gap_ms[sure] / gaps.tokens[sure], gap_block, gaps.tokens[sure].astype(np.float64)),
        "icl": (gaps.gap_ms[sure], gap_block, np.ones(int(sure.sum()))),
    }


def _sorted(value: NDArray[np.float64], block: NDArray[np.int64], weight: NDArray[np.float64]) -> Values:
    known = np.flatnonzero(~np.isnan(value))
    order = known[np.argsort(value[known], kind="stable")]
    return Values(value[order], block[order], weight[order])


def _sums(
    table: RequestTable,
    ended: RequestTable,
    good: RequestTable,
    block_of: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    places: int,
    start_ns: int,
    end_ns: int,
) -> tuple[NDArray[np.float64], ...]:
    """By block: prompt tokens, output tokens, good requests, all ended, all but cancelled, sent."""
    delivered = (table.status == RequestStatus.OK) | (table.status == RequestStatus.CANCELLED)
    arrived_ns = np.repeat(table.sent_ns, table.chunks) + table.chunk_us.astype(np.int64) * 1000
    counted = (arrived_ns > start_ns) & (arrived_ns <= end_ns) & np.repeat(delivered, table.chunks)
    sent_ns = table.sent_ns[(table.sent_ns >= start_ns) & (table.sent_ns < end_ns)]
    judged = ended.end_ns[ended.status != RequestStatus.CANCELLED]

    def total(times_ns: NDArray[np.int64], amounts: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return np.bincount(block_of(times_ns), amounts, places).astype(np.float64)

    return (
        total(good.end_ns, np.maximum(good.isl_tokens, 0).astype(np.float64)),
        total(arrived_ns[counted], table.chunk_tokens[counted].astype(np.float64)),
        total(good.end_ns),
        total(ended.end_ns),
        total(judged),
        total(sent_ns),
    )
