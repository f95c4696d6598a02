"""What a level used: GPUs, energy and money, and the metrics that follow from them.

Requests alone do not tell these: they need the GPU samples of the measuring window, the number of GPUs that the
configuration uses, and a price.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from sessions.lanes import own_sources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessions.metrics import Summary
    from sessions.reader import SessionReader
    from sessions.records import Sample, Source

MIN_COVERAGE = 0.5
"""Share of the window that a GPU's samples must span for its energy to be told."""

_PER_GPU = ("output_token_throughput", "total_token_throughput", "goodput")
_SECONDS_PER_HOUR = 3600.0
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Resources:
    """What a level used.

    Attributes:
        gpus: GPUs that the configuration uses.
        energy_j: Their energy in the measuring window; NaN when it is not known.
        window_s: Length of that window.
        gpu_hour_price: Price of one GPU for an hour; None when there is none.
    """

    gpus: int
    energy_j: float
    window_s: float
    gpu_hour_price: float | None = None


def with_resources(result: Summary, used: Resources) -> Summary:
    """A level's metrics together with those per GPU, per joule and per unit of money; what is not known is left out."""
    told: dict[str, float] = {"gpus": float(used.gpus)}
    for name in _PER_GPU:
        if name in result:
            told[f"{name}_per_gpu"] = result[name]["avg"] / used.gpus
    output = _average(result, "output_token_throughput")
    if used.window_s > 0 and not math.isnan(used.energy_j):
        told["gpu_power"] = used.energy_j / used.window_s
        if output > 0:
            told["energy_per_output_token"] = told["gpu_power"] / output
    if used.gpu_hour_price is not None:
        price_per_s = used.gpu_hour_price * used.gpus / _SECONDS_PER_HOUR
        for kind, rate in (("output", output), ("total", _average(result, "total_token_throughput"))):
            if rate > 0:
                told[f"cost_per_million_{kind}_tokens"] = price_per_s / rate * _MILLION
    return {**result, **{name: {"avg": value} for name, value in told.items()}}


def energy_in(reader: SessionReader, start_ns: int, end_ns: int, gpus: int, trial: int) -> float:
    """Energy of the GPUs that a trial used between two moments, in joules; NaN when fewer were watched, or for no time.

    A host may have more GPUs than the server uses: those that drew the most are counted, among the trial's own where trials ran
    side by side and the session tells whose is which.
    """
    if end_ns <= start_ns:
        return math.nan
    energies = [_energy_of(reader, source, start_ns, end_ns) for source in own_sources(reader, "gpu", trial)]
    known = sorted((energy for energy in energies if not math.isnan(energy)), reverse=True)
    return sum(known[:gpus]) if len(known) >= gpus > 0 else math.nan


def _energy_of(reader: SessionReader, source: Source, start_ns: int, end_ns: int) -> float:
    # A sample on either side of the window, so that slow sampling does not cut it short.
    before = reader.last_sample(source.id, start_ns)
    samples = reader.samples(source.id, start_ns, end_ns + 1)
    after = reader.samples(source.id, end_ns + 1, end_ns + NS_PER_S)[:1]
    around = [*([before] if before and start_ns - before.t_ns <= NS_PER_S else []), *samples, *after]
    if len(around) < 2 or around[-1].t_ns - around[0].t_ns < MIN_COVERAGE * (end_ns - start_ns):
        return math.nan
    columns = {name: place for place, name in enumerate(source.columns)}
    return _mean_power(around, columns) * (end_ns - start_ns) / NS_PER_S


def _mean_power(samples: Sequence[Sample], columns: Mapping[str, int]) -> float:
    """Mean power over some samples, in watts: by the energy counter where there is one, else from the readings of power."""
    if "energy_j" in columns:
        first, last = samples[0].values[columns["energy_j"]], samples[-1].values[columns["energy_j"]]
        if last > first:
            return (last - first) / ((samples[-1].t_ns - samples[0].t_ns) / NS_PER_S)
    if "power_w" not in columns:
        return math.nan
    readings = [(each.t_ns, each.values[columns["power_w"]]) for each in samples]
    area = sum(
        (watts + more_watts) / 2 * (later_ns - t_ns)
        for (t_ns, watts), (later_ns, more_watts) in itertools.pairwise(readings)
    )
    return area / (readings[-1][0] - readings[0][0])


def _average(result: Summary, name: str) -> float:
    return result.get(name, {}).get("avg", math.nan)
