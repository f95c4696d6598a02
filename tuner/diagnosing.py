"""What limited a trial: the rules of `sessions.bottleneck` over the window of the level that gave its score, or an SLO."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sessions.bottleneck import MOVED_BY, SLO_LIMITS, TOO_LITTLE, Evidence, Rule, figures_of, limit_of
from sessions.lanes import own_sources
from sessions.metrics import METRICS
from tuner.search.problem import Meaning, meaning_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from engines.knob import Value
    from sessions.reader import SessionReader
    from sessions.records import LevelRecord, Source, Trial
    from tuner.search.objective import Objective


def diagnose_trial(
    reader: SessionReader,
    trial: Trial,
    level: LevelRecord,
    objective: Objective,
    knobs: Iterable[str],
    highest: Mapping[str, Value] | None = None,
) -> dict[str, Any] | None:
    """What limited a trial, as the session keeps it; None when neither the samples nor the SLOs tell.

    Where no part of the server was short, it is the SLO that the next higher load broke, and what was short there.

    Args:
        reader: The session.
        trial: The trial.
        level: The level that gave its score.
        objective: Its SLOs are asked.
        knobs: Knobs that could be moved, the searched ones first.
        highest: The greatest value that a knob may take, where it is a number; what has reached it is not named.
    """
    if level.window_ns is None:
        return None
    movable = _movable(knobs, {**trial.params, **trial.effective}, highest or {})
    evidence = gather(reader, trial, level.window_ns)
    rule = limit_of(evidence)
    if rule is None or rule.kind == TOO_LITTLE:
        told = _beyond(reader, trial, level, objective, movable)
        if told is not None or rule is None:
            return told
    return _told(rule.kind, f"{_load(level)}: limited by {_why(rule, evidence)}", evidence, movable)


def _beyond(
    reader: SessionReader, trial: Trial, level: LevelRecord, objective: Objective, movable: Sequence[str]
) -> dict[str, Any] | None:
    """What limited the next higher load of the same trial, where an SLO was broken; the SLO stands in the diagnosis as `slo`."""
    higher = [each for each in reader.levels(level.trial) if each.kind == level.kind and each.value > level.value]
    following = min(higher, key=lambda each: each.value, default=None)
    if following is None or (slo := objective.worst_broken(following.result)) is None:
        return None
    value = following.result.get(slo.metric, {}).get(slo.stat)
    if value is None or following.window_ns is None:
        return None
    text = f"{_load(level)}: limited by the SLO {slo}: {value:.4g} {METRICS[slo.metric].unit} at {_load(following)}"
    evidence = gather(reader, trial, following.window_ns)
    rule = limit_of(evidence)
    if rule is not None and rule.kind != TOO_LITTLE:
        told = _told(rule.kind, f"{text}, there by {_why(rule, evidence)}", evidence, movable)
    elif slo.metric in SLO_LIMITS:
        told = _told(SLO_LIMITS[slo.metric], text, evidence, movable)
    else:
        return None
    return {**told, "slo": str(slo)}


def _told(kind: str, text: str, evidence: Evidence, movable: Sequence[str]) -> dict[str, Any]:
    return {"kind": kind, "text": text, "evidence": list(figures_of(evidence)), "knob": knob_for(kind, movable)}


def _why(rule: Rule, evidence: Evidence) -> str:
    return f"{rule.limit}: {rule.because(evidence)}"


def _load(level: LevelRecord) -> str:
    return f"{level.kind} {level.value:g}"


def _movable(knobs: Iterable[str], settings: Mapping[str, Value], highest: Mapping[str, Value]) -> list[str]:
    """Knobs that are not at their end: more of a number is what moves a limit (`MOVED_BY`), and a switch that is on."""
    return [name for name in knobs if not _is_at_end(name, settings.get(name), highest.get(name))]


def _is_at_end(name: str, value: Value, highest: Value) -> bool:
    if isinstance(value, bool):
        return value is (meaning_of(name) is not Meaning.EAGER)
    return _number(value) >= _number(highest)


def knob_for(kind: str, knobs: Iterable[str]) -> str | None:
    """The knob that would move a limit, or None."""
    by_meaning: dict[Meaning, str] = {}
    for name in knobs:
        if (meaning := meaning_of(name)) is not None:
            by_meaning.setdefault(meaning, name)
    wanted = (Meaning(word) for word in MOVED_BY.get(kind, ()))
    return next((by_meaning[meaning] for meaning in wanted if meaning in by_meaning), None)


def gather(reader: SessionReader, trial: Trial, window_ns: tuple[int, int]) -> Evidence:
    """Means of what was sampled of a trial's server and GPUs in a window.

    Args:
        reader: The session.
        trial: The trial: limits that the server does not sample are taken from the configuration in force.
        window_ns: Start and end, session time.
    """
    gpu, engine, load = (_busiest(reader, kind, trial, window_ns) for kind in ("gpu", "engine", "load"))
    settings = {**trial.params, **trial.effective}
    limits = {meaning: value for name, value in settings.items() if (meaning := meaning_of(name)) is not None}
    batch_limit = engine.mean("max_batch_size")
    if math.isnan(batch_limit):
        batch_limit = _number(limits.get(Meaning.BATCH))
    return Evidence(
        gpu=gpu.name.removeprefix("gpu"),
        util_pct=gpu.mean("util_pct"),
        tensor_pct=gpu.mean("tensor_active_pct"),
        dram_pct=gpu.mean("dram_active_pct"),
        power_ratio=gpu.mean("power_w") / (gpu.mean("power_limit_w") or math.nan),
        power_w=gpu.mean("power_w"),
        clock_ratio=gpu.mean("sm_clock_mhz") / (gpu.mean("max_sm_clock_mhz") or math.nan),
        throttle_mask=gpu.last("throttle_mask"),
        kv_used_ratio=engine.mean("kv_used_ratio"),
        running=engine.mean("running"),
        waiting=engine.mean("waiting"),
        waiting_growth=engine.growth("waiting"),
        paused=engine.mean("paused"),
        batch_limit=batch_limit,
        in_flight=load.mean("in_flight"),
        client_lag_ms=load.last("client_lag_p99_ms"),
        context_tokens=engine.mean("context_tokens"),
        token_limit=_number(limits.get(Meaning.TOKEN_BUDGET)),
    )


class _Series:
    """Samples of one source in a window; NaN for what it does not tell."""

    def __init__(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
        self.name = name
        self._places = {column: place for place, column in enumerate(columns)}
        self._rows = rows

    def mean(self, column: str) -> float:
        known = self._known(column)
        return fmean(known) if known else math.nan

    def last(self, column: str) -> float:
        known = self._known(column)
        return known[-1] if known else math.nan

    def growth(self, column: str) -> float:
        """Mean of the later half less that of the earlier half."""
        known = self._known(column)
        half = len(known) // 2
        return fmean(known[half:]) - fmean(known[:half]) if half else math.nan

    def _known(self, column: str) -> list[float]:
        place = self._places.get(column)
        return [] if place is None else [row[place] for row in self._rows if not math.isnan(row[place])]


def _busiest(reader: SessionReader, kind: str, trial: Trial, window_ns: tuple[int, int]) -> _Series:
    """The source of a kind, of the trial's own, that was busiest in a window: with several GPUs the one that limits."""
    found = [_series(reader, source, window_ns) for source in own_sources(reader, kind, trial.number)]
    return max(found, key=lambda each: _or_least(each.mean("util_pct")), default=_Series("", (), ()))


def _series(reader: SessionReader, source: Source, window_ns: tuple[int, int]) -> _Series:
    samples = reader.samples(source.id, window_ns[0], window_ns[1] + 1)
    return _Series(source.name, source.columns, [sample.values for sample in samples])


def _or_least(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _number(value: Value) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
