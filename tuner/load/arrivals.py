"""When the requests of an open-loop level leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tuner.load.spec import Arrivals

_SAME_MOMENT_S = 1e-6
"""A trace that is shorter has no course to be stretched."""

_BLOCK = 1024
_SALT = 0xA881


def arrival_times_s(arrivals: Arrivals, rate: float, seed: int) -> Iterator[float]:
    """Seconds after the start at which requests leave, without end.

    The gaps have mean 1/rate: all alike (`constant`), exponential (`poisson`), or gamma with shape `burstiness` (1 is Poisson; the
    definition of `vllm bench serve --burstiness`). During the ramp the rate grows linearly from 0.

    Args:
        arrivals: The process; `trace` is not made here (see `trace_times_s`).
        rate: Requests per second after the ramp.
        seed: The same seed gives the same times.
    """
    rng = np.random.default_rng([_SALT, seed])
    reached = 0.0
    while True:
        for gap in _unit_gaps(arrivals, rng):
            reached += gap
            yield _after_ramp(reached, rate, arrivals.ramp_s)


def trace_times_s(timestamps_s: Sequence[float], rate: float, ramp_s: float = 0.0) -> Iterator[float]:
    """Times of a recorded trace, stretched to a mean of `rate` requests per second, and repeated without end.

    During the ramp it goes more slowly, as much as lets the rate grow linearly from 0.
    """
    first = timestamps_s[0]
    count = len(timestamps_s)
    span_s = timestamps_s[-1] - first
    stretch = (count - 1) / rate / span_s if span_s > _SAME_MOMENT_S else 0.0
    round_s = count / rate
    number = 0
    while True:
        for stamp in timestamps_s:
            reached_s = number * round_s + (stamp - first) * stretch
            yield _after_ramp(reached_s * rate, rate, ramp_s) if ramp_s else reached_s
        number += 1


def _unit_gaps(arrivals: Arrivals, rng: np.random.Generator) -> list[float]:
    """A block of gaps with mean 1."""
    if arrivals.pattern == "constant":
        return [1.0] * _BLOCK
    shape = arrivals.burstiness if arrivals.pattern == "gamma" else 1.0
    gaps: list[float] = rng.gamma(shape, 1.0 / shape, _BLOCK).tolist()
    return gaps


def _after_ramp(arrived: float, rate: float, ramp_s: float) -> float:
    """Time at which the expected number of arrivals is `arrived`, when the rate grows linearly over `ramp_s`."""
    in_ramp = rate * ramp_s / 2
    if arrived < in_ramp:
        return float(np.sqrt(2 * ramp_s * arrived / rate))
    return ramp_s / 2 + arrived / rate
