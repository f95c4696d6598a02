"""Compares trials, of one session or of several: what differs in configuration and conditions, and what in the results.

The first side is the one the others are compared with. Results are compared at the load that gave each side its score (the
highest within its limits, when that was searched), and at every load that all sides were measured at. Intervals come from the
raw requests (`sessions.bootstrap`); where a file has too few of them, a difference is shown without a claim about it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sessions.batches import student_t
from sessions.bootstrap import CONFIDENCE, cut_window
from sessions.comparison import (
    DEFAULT,
    SCORED,
    Change,
    Comparison,
    Difference,
    Distribution,
    Estimate,
    LoadComparison,
    MetricComparison,
    Side,
)
from sessions.conditions import conditions_of
from sessions.errors import SessionError
from sessions.json_values import mapping
from sessions.metrics import METRICS
from sessions.slo import slos_of
from sessions.summary import summarise_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sessions.bootstrap import Draws, Window
    from sessions.reader import SessionReader
    from sessions.records import LevelRecord, Metrics, Params, Trial

COMPARED: tuple[tuple[str, str], ...] = (
    ("output_token_throughput", "avg"),
    ("request_throughput", "avg"),
    ("goodput", "avg"),
    ("ttft", "p50"),
    ("ttft", "p99"),
    ("itl", "p50"),
    ("itl", "p99"),
    ("tpot", "p50"),
    ("tpot", "p99"),
    ("e2e", "p50"),
    ("e2e", "p99"),
    ("error_ratio", "avg"),
)
"""Metrics and statistics that are compared, in the order shown."""

DISTRIBUTIONS = ("ttft", "tpot", "itl", "e2e")
BINS = 60
TAIL = 0.998
"""Share of the values that the shown range of a distribution holds; what is beyond counts in its last bin."""


def take_side(reader: SessionReader, number: int | None = None, name: str = "") -> Side:
    """One side of a comparison.

    Args:
        reader: The session.
        number: The trial; None: the best one that meets every limit, of a bench the one it made.
        name: How to call it; empty: the file's name and the trial.

    Raises:
        SessionError: If there is no such trial, or nothing was measured in it.
    """
    meta = reader.meta()
    trial = _trial(reader, meta, number)
    objective = mapping(meta.get("objective"))
    slos = slos_of(objective)
    levels = [
        (level, cut_window(reader.requests(level.id), *level.window_ns, slos))
        for level in reader.levels(trial.number)
        if level.state == "valid" and level.window_ns is not None
    ]
    if not levels:
        raise SessionError(f"{reader.path}: trial {trial.number} has no valid measurement to compare")
    return Side(
        name=name or f"{reader.path.stem}#{trial.number}",
        path=str(reader.path),
        trial=trial,
        simulated=bool(mapping(meta.get("engine")).get("simulated")),
        conditions=conditions_of(reader, meta),
        levels=tuple(levels),
        unit=str(objective.get("unit", "")),
        objective=str(objective.get("label", "")),
    )


def compare(sides: Sequence[Side], wanted: Sequence[tuple[str, str]] = COMPARED) -> Comparison:
    """Compare trials; the first is what the others are compared with.

    Args:
        sides: At least two.
        wanted: Metrics and statistics to compare.

    Raises:
        ValueError: If there are fewer than two sides.
    """
    if len(sides) < 2:
        raise ValueError("a comparison needs at least two sides")
    return Comparison(
        sides=tuple(sides),
        params=_params(sides),
        conditions=_differences([side.conditions for side in sides], None),
        loads=tuple(_loads(sides, wanted)),
        notes=tuple(_notes(sides)),
    )


def _trial(reader: SessionReader, meta: Mapping[str, Any], number: int | None) -> Trial:
    trials = reader.trials()
    if number is not None:
        for trial in trials:
            if trial.number == number:
                return trial
        raise SessionError(f"{reader.path}: there is no trial {number}; there are {len(trials)}, counted from 0")
    best = summarise_session(trials, meta).best
    if best is not None:
        return best
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        raise SessionError(f"{reader.path}: no trial was measured, so there is nothing to compare")
    if meta.get("kind") == "tune":
        raise SessionError(f"{reader.path}: no trial meets every limit; name one, as {reader.path.name}#NUMBER")
    return scored[-1]


def _params(sides: Sequence[Side]) -> tuple[Difference, ...]:
    asked = _differences([side.trial.params for side in sides], DEFAULT)
    known = {difference.name for difference in asked}
    told = [side.trial.effective for side in sides]
    in_force = [
        difference
        for difference in _differences(told, None)
        if difference.name not in known and None not in difference.values
    ]
    return asked + tuple(Difference(f"{each.name} (in force)", each.values) for each in in_force)


def _differences(tables: Sequence[Mapping[str, Any] | Params], absent: str | None) -> tuple[Difference, ...]:
    names = dict.fromkeys(name for table in tables for name in table)
    found = (Difference(name, tuple(table.get(name, absent) for table in tables)) for name in names)
    return tuple(each for each in found if any(value != each.values[0] for value in each.values[1:]))


def _notes(sides: Sequence[Side]) -> Iterator[str]:
    pretended = [side.name for side in sides if side.simulated]
    if pretended:
        yield f"simulated, all numbers pretended: {', '.join(pretended)}"
    if len({side.objective for side in sides}) > 1:
        yield "the sides were tuned for different objectives"
    if all(not window.blocks for side in sides for _, window in side.levels):
        yield "too few requests for intervals: whether a difference is more than noise is not known"
    if any(window.blocks and not window.long for side in sides for _, window in side.levels):
        yield "windows shorter than 8 requests last: no intervals for rates"
    yield "intervals hold the noise within a run, not that from one start of a server to the next"


def _loads(sides: Sequence[Side], wanted: Sequence[tuple[str, str]]) -> Iterator[LoadComparison]:
    by_load = [{(level.kind, level.value): (level, window) for level, window in side.levels} for side in sides]
    common = [load for load in by_load[0] if all(load in table for table in by_load[1:])]
    scored = [part for side in sides if (part := _scored_level(side)) is not None]
    if len(scored) == len(sides):
        loads = {(level.kind, level.value) for level, _ in scored}
        if len(loads) > 1:
            yield _at_load(SCORED, scored, wanted)
        elif (first := next(iter(loads))) in common:
            common.sort(key=lambda load: load != first)
    for kind, value in common:
        yield _at_load(kind, [table[kind, value] for table in by_load], wanted)


def _scored_level(side: Side) -> tuple[LevelRecord, Window] | None:
    """The level whose result is the trial's."""
    result = side.trial.result
    return next(((level, window) for level, window in side.levels if result and level.result == result), None)


def _at_load(
    kind: str, parts: Sequence[tuple[LevelRecord, Window]], wanted: Sequence[tuple[str, str]]
) -> LoadComparison:
    rows = [row for metric, stat in wanted if (row := _compare_metric(metric, stat, parts)) is not None]
    shown = [each for name in DISTRIBUTIONS if (each := _distribution(name, [window for _, window in parts]))]
    return LoadComparison(kind, tuple(level.value for level, _ in parts), tuple(rows), tuple(shown))


def _compare_metric(metric: str, stat: str, parts: Sequence[tuple[LevelRecord, Window]]) -> MetricComparison | None:
    values = [_told(level.result, metric, stat) for level, _ in parts]
    if all(value is None for value in values):
        return None
    draws = [window.draws(metric, stat, seed) for seed, (_, window) in enumerate(parts)]
    estimates = [
        None if value is None else _estimate(value, drawn, window, metric)
        for value, drawn, (_, window) in zip(values, draws, parts, strict=True)
    ]
    changes: list[Change | None] = [None]
    for place in range(1, len(parts)):
        first, second = values[0], values[place]
        if first is None or second is None:
            changes.append(None)
            continue
        changes.append(_change(metric, first, second, (draws[0], draws[place])))
    return MetricComparison(metric, stat, METRICS[metric].unit, tuple(estimates), tuple(changes))


def _told(result: Metrics, metric: str, stat: str) -> float | None:
    value = result.get(metric, {}).get(stat)
    return None if value is None or not math.isfinite(value) else value


def _estimate(value: float, draws: Draws | None, window: Window, metric: str) -> Estimate:
    count = window.count(metric)
    half = math.inf if draws is None else draws.half_width()
    return Estimate(value, value - half, value + half, count) if math.isfinite(half) else Estimate(value, count=count)


def _change(metric: str, first: float, second: float, draws: tuple[Draws | None, Draws | None]) -> Change:
    absolute = second - first
    relative = second / first - 1 if first > 0 else None
    low, high = _interval(first, second, *draws)
    significant = None if low is None or high is None else not low <= 0 <= high
    wish = METRICS[metric].better
    better = None if wish is None or not absolute else (absolute > 0) == (wish == "higher")
    return Change(absolute, relative, low, high, significant, better)


def _interval(
    first: float, second: float, one: Draws | None, other: Draws | None
) -> tuple[float, float] | tuple[None, None]:
    """Interval of the change: of the ratio, taken on a log scale, or of the plain difference where there is none."""
    if one is None or other is None:
        return None, None
    on_logs = first > 0
    if on_logs and min(second, float(one.values.min()), float(other.values.min())) <= 0:
        return None, None
    errors = [each.standard_error(on_logs=on_logs) for each in (one, other)]
    variance = errors[0] ** 2 + errors[1] ** 2
    if not math.isfinite(variance):
        return None, None
    half = 0.0
    if variance:
        # Degrees of freedom of a sum of two variances (Welch 1947, Satterthwaite 1946).
        freedom = variance**2 / sum(
            error**4 / (each.blocks - 1) for error, each in zip(errors, (one, other), strict=True)
        )
        half = student_t(CONFIDENCE, freedom) * math.sqrt(variance)
    if on_logs:
        center = math.log(second / first)
        return math.expm1(center - half), math.expm1(center + half)
    return second - first - half, second - first + half


def _distribution(metric: str, windows: Sequence[Window]) -> Distribution | None:
    known = [window.distributions.get(metric) for window in windows]
    filled = [values for values in known if values is not None and values.value.size]
    if not filled:
        return None
    low = min(float(values.value[0]) for values in filled)
    high = max(float(np.quantile(values.value, TAIL)) for values in filled)
    if not high > low:
        high = low + max(abs(low), 1.0) * 0.01
    room = (high - low) / (BINS - 2)
    edges = np.linspace(
        max(low - room, min(low, 0.0)), high + room, BINS + 1
    )  # times are not below 0, whatever the room
    shares: list[tuple[float, ...]] = []
    for values in known:
        if values is None or not values.value.size:
            shares.append(())
            continue
        inside = np.clip(values.value, low, high)
        counted = np.histogram(inside, edges, weights=values.weight)[0]
        shares.append(tuple((counted / counted.sum()).tolist()))
    return Distribution(metric, METRICS[metric].unit, tuple(edges.tolist()), tuple(shares))
