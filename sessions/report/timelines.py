"""The charts of a report over time: GPUs and server, with the trials behind them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from sessions.clock import NS_PER_S
from sessions.report.charts import Band, Chart, Series
from sessions.report.scales import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.report.facts import Facts, Timeline

TIME_FIGURES: tuple[tuple[str, str, tuple[tuple[str, str, float], ...]], ...] = (
    (
        "GPU activity",
        "% of the time, mean of the GPUs",
        (
            ("tensor_active_pct", "tensor cores", 1.0),
            ("dram_active_pct", "memory bandwidth", 1.0),
            ("sm_active_pct", "SMs", 1.0),
        ),
    ),
    ("GPU utilisation", "% of the time, mean of the GPUs", (("util_pct", "any kernel runs", 1.0),)),
    ("Power", "W, all GPUs together", (("power_w", "drawn", 0.0), ("power_limit_w", "limit", 0.0))),
    ("GPU memory", "GB, all GPUs together", (("mem_used_bytes", "in use", 0.0),)),
    ("SM clock", "MHz, mean of the GPUs", (("sm_clock_mhz", "clock", 1.0), ("max_sm_clock_mhz", "highest", 1.0))),
)
"""Title, unit, and columns with their name and whether the GPUs' values are averaged (1) or added (0)."""

ENGINE_FIGURES: tuple[tuple[str, str, tuple[tuple[str, str, float], ...]], ...] = (
    ("KV cache in use", "%", (("kv_used_ratio", "in use", 100.0), ("kv_hit_ratio", "prefix hits", 100.0))),
    ("Requests in the server", "requests", (("running", "running", 1.0), ("waiting", "waiting", 1.0))),
)


def gpu_charts(facts: Facts) -> list[Chart]:
    """The GPUs over the whole session, with the trials behind them."""
    charts = []
    for title, unit, columns in TIME_FIGURES:
        series = []
        for place, (column, name, mean) in enumerate(columns):
            line = _over_gpus(facts.gpus, column, mean=bool(mean))
            if column == "mem_used_bytes":
                line = [(t, value / 1e9) for t, value in line]
            if any(math.isfinite(value) for _, value in line):
                series.append(_time_series(name, line, (0, 2, 5)[place], dashed=name in ("limit", "highest")))
        if series:
            charts.append(_time_chart(facts, title, unit, series))
    return charts


def engine_charts(facts: Facts) -> list[Chart]:
    """The server over the whole session."""
    if facts.engine is None:
        return []
    charts = []
    for title, unit, columns in ENGINE_FIGURES:
        series = []
        for place, (column, name, factor) in enumerate(columns):
            values = facts.engine.columns.get(column, ())
            line = [(t, value * factor) for t, value in zip(facts.engine.times_s, values, strict=False)]
            if any(math.isfinite(value) for _, value in line):
                series.append(_time_series(name, line, (4, 2)[place]))
        if series:
            charts.append(_time_chart(facts, title, unit, series))
    return charts


def _over_gpus(gpus: Sequence[Timeline], column: str, *, mean: bool) -> list[tuple[float, float]]:
    if not gpus:
        return []
    length = min(len(gpu.times_s) for gpu in gpus)
    line = []
    for place in range(length):
        told = [gpu.columns[column][place] for gpu in gpus if column in gpu.columns]
        known = [value for value in told if math.isfinite(value)]
        total = sum(known) if known else math.nan
        line.append((gpus[0].times_s[place], total / len(known) if mean and known else total))
    return line


def _time_series(name: str, line: Sequence[tuple[float, float]], ink: int, *, dashed: bool = False) -> Series:
    points = _with_gaps(line)
    tips = [f"{name}: {short(value)}\n{clock(t)} after the start" for t, value in points]
    return Series(name, points, ink, tips=tips, dashed=dashed)


def _with_gaps(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The line, parted where nothing was sampled for long."""
    if len(line) < 3:
        return list(line)
    steps = sorted(after - before for (before, _), (after, _) in pairwise(line))
    usual = steps[len(steps) // 2]
    parted = [line[0]]
    for (before, _), (after, value) in pairwise(line):
        if after - before > 6 * usual:
            parted.append(((before + after) / 2, math.nan))
        parted.append((after, value))
    return parted


def _time_chart(facts: Facts, title: str, unit: str, series: Sequence[Series]) -> Chart:
    highs = (max((y for _, y in each.points if math.isfinite(y)), default=math.nan) for each in series)
    says = ", ".join(f"{each.name} up to {short(high)}" for each, high in zip(series, highs, strict=True))
    best = facts.summary.best
    bands = [
        Band(
            trial.start_ns / NS_PER_S,
            (trial.end_ns or int(facts.duration_s * NS_PER_S)) / NS_PER_S,
            str(trial.number),
            strong=best is not None and trial.number == best.number,
        )
        for trial in facts.trials
    ]
    return Chart(
        title, says, "s after the start; trials shaded, the winner more", unit, series, y_zero=True, bands=bands
    )


def clock(seconds: float) -> str:
    """A time span in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
