"""Whether the machine is still the one it was: clocks, power limits and heat of the GPUs, between two runs of a configuration.

The same configuration is compared with itself: one that loads the GPUs more lowers their clocks by its own doing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final

from sessions.throttle import THERMAL_BITS, has_reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessions.reader import SessionReader
    from sessions.records import Source

HOT_C: Final = 10.0
"""A GPU that is so much warmer than before is told of; alone it is no reason to repeat anything."""

_COLUMNS: Final = ("sm_clock_mhz", "mem_clock_mhz", "power_limit_w", "temp_c", "throttle_mask")


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU while a level was measured; NaN where it is not known.

    Attributes:
        sm_clock_mhz: Mean SM clock.
        mem_clock_mhz: Mean memory clock.
        power_limit_w: Mean enforced power limit.
        temp_c: Mean temperature.
        hot: Whether the driver lowered the clock because of heat at any time.
    """

    sm_clock_mhz: float
    mem_clock_mhz: float
    power_limit_w: float
    temp_c: float
    hot: bool


def gpu_states(reader: SessionReader, trial: int) -> dict[str, GpuState]:
    """The GPUs in the measuring windows of a trial, by name; those without samples are left out."""
    windows = [level.window_ns for level in reader.levels(trial) if level.window_ns is not None]
    found = {source.name: _state(reader, source, windows) for source in reader.sources("gpu")}
    return {name: state for name, state in found.items() if state is not None}


def changes(before: Mapping[str, GpuState], now: Mapping[str, GpuState], bound: float) -> list[str]:
    """What of the machine moved by more than a bound, in words; empty when it is the same.

    Args:
        before: The GPUs in an earlier run of the same configuration.
        now: The GPUs in this one.
        bound: Largest change of a clock or a power limit, as a share.
    """
    told: list[str] = []
    for name in sorted(before.keys() & now.keys()):
        old, new = before[name], now[name]
        for what, one, other, unit in (
            ("SM clock", old.sm_clock_mhz, new.sm_clock_mhz, "MHz"),
            ("memory clock", old.mem_clock_mhz, new.mem_clock_mhz, "MHz"),
            ("power limit", old.power_limit_w, new.power_limit_w, "W"),
        ):
            if one > 0 and abs(other / one - 1) > bound:
                told.append(f"{name}: {what} from {one:.0f} to {other:.0f} {unit}")
        if new.hot and not old.hot:
            told.append(f"{name}: slowed down by heat, {old.temp_c:.0f} before and {new.temp_c:.0f} °C now")
    return told


def _state(reader: SessionReader, source: Source, windows: Sequence[tuple[int, int]]) -> GpuState | None:
    samples = [sample.values for start_ns, end_ns in windows for sample in reader.samples(source.id, start_ns, end_ns)]
    columns = {name: place for place, name in enumerate(source.columns)}
    if not samples or not set(_COLUMNS) <= columns.keys():
        return None

    def mean(name: str) -> float:
        known = [value for sample in samples if not math.isnan(value := sample[columns[name]])]
        return fmean(known) if known else math.nan

    hot = any(has_reason(sample[columns["throttle_mask"]], THERMAL_BITS) for sample in samples)
    return GpuState(mean("sm_clock_mhz"), mean("mem_clock_mhz"), mean("power_limit_w"), mean("temp_c"), hot)
