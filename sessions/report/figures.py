"""The charts of a report, each from the facts of the session; None where the session says nothing about it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sessions.json_values import listed, mapping, number
from sessions.report.charts import Chart, Limit, Series
from sessions.report.scales import short
from sessions.rows import word
from sessions.summary import is_better

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessions.comparison import Comparison, Distribution
    from sessions.records import LevelRecord, Trial
    from sessions.report.charts import Shape
    from sessions.report.facts import Facts

WINNER_INK, BASELINE_INK, OTHER_INK, BAD_INK = 0, 1, 7, 6
MOST_EFFECTS = 12
MOST_KNOBS = 16

LOAD_FIGURES: tuple[tuple[str, str, str, str], ...] = (
    ("Throughput against load", "output_token_throughput", "avg", "output tokens/s"),
    ("TTFT p99 against load", "ttft", "p99", "TTFT p99, ms"),
    ("TPOT p99 against load", "tpot", "p99", "TPOT p99, ms"),
    ("E2E p99 against load", "e2e", "p99", "E2E p99, ms"),
)
"""Title, metric, statistic and label of what is drawn against the load."""


def load_charts(facts: Facts) -> list[Chart]:
    """Baseline and winner at every load they were measured at."""
    sides: list[tuple[str, Trial | None, int, Shape]] = [
        ("winner", facts.summary.best, WINNER_INK, "circle"),
        ("baseline", facts.summary.baseline, BASELINE_INK, "square"),
    ]
    levels = [
        (name, facts.levels_of(trial), ink, shape) for name, trial, ink, shape in reversed(sides) if trial is not None
    ]
    if facts.summary.best is not None and facts.summary.best is facts.summary.baseline:
        levels = levels[:1]
    found = []
    for title, metric, stat, label in LOAD_FIGURES:
        series = [
            Series(
                name,
                [(level.value, value) for level in measured if math.isfinite(value := _told(level, metric, stat))],
                ink,
                shape=shape,
                tips=[
                    f"{name}, {level.kind} {level.value:g}\n{label}: {short(value)}"
                    for level in measured
                    if math.isfinite(value := _told(level, metric, stat))
                ],
            )
            for name, measured, ink, shape in levels
        ]
        series = [each for each in series if each.points]
        if not series:
            continue
        kind = next(level.kind for _, measured, _, _ in levels for level in measured)
        x_label = "concurrent requests" if kind == "concurrency" else "requests/s"
        says = "; ".join(
            f"{each.name} {short(each.points[-1][1])} at load {short(each.points[-1][0])}" for each in series
        )
        found.append(
            Chart(title, says, x_label, label, series, x_log=True, y_zero=True, limits=_limits(facts, metric, stat))
        )
    return found


def _limits(facts: Facts, metric: str, stat: str) -> list[Limit]:
    found = []
    for slo in listed(facts.objective.get("slos")):
        wanted = mapping(slo)
        value = number(wanted.get("value"))
        if wanted.get("metric") == metric and wanted.get("stat") == stat and math.isfinite(value):
            found.append(Limit(value, f"SLO {short(value)}"))
    return found


def _told(level: LevelRecord, metric: str, stat: str) -> float:
    return level.result.get(metric, {}).get(stat, math.nan)


def pareto_chart(facts: Facts) -> Chart | None:
    """What each measured level gives to all users together and to each of them."""
    pareto = mapping(facts.meta.get("pareto"))
    objectives = listed(pareto.get("objectives"))
    front = [mapping(each) for each in listed(pareto.get("front"))]
    points = [
        (number(values[0]), number(values[1]), each) for each in front if len(values := listed(each.get("values"))) == 2
    ]
    if len(objectives) == 2 and points:
        return _front_chart(facts, [mapping(each) for each in objectives], points)
    return _trade_chart(facts)


def _front_chart(
    facts: Facts, objectives: Sequence[Mapping[str, Any]], points: Sequence[tuple[float, float, Mapping[str, Any]]]
) -> Chart:
    labels = [word(f"{each.get('metric', '')} {each.get('stat', '')}").removesuffix(" avg") for each in objectives]
    ordered = sorted(points, key=lambda point: point[1])
    tips = [
        f"trial {word(each.get('trial', '?'))}\n{labels[0]}: {short(x)}\n{labels[1]}: {short(y)}"
        for x, y, each in ordered
    ]
    line = Series("Pareto front", [(y, x) for x, y, _ in ordered], WINNER_INK, tips=tips)
    best = facts.summary.best
    marked = [(y, x) for x, y, each in ordered if best is not None and each.get("trial") == best.number]
    series = [line, Series("winner", marked, 3, "dots", shape="triangle")] if marked else [line]
    hypervolume = number(mapping(facts.meta.get("pareto")).get("hypervolume"))
    volume = f"; hypervolume {short(hypervolume)}" if math.isfinite(hypervolume) else ""
    return Chart(
        "Pareto front", f"{len(ordered)} points that nothing beats in both{volume}", labels[1], labels[0], series
    )


def _trade_chart(facts: Facts) -> Chart | None:
    """Without a recorded front: every level, and those that no other beats in both."""
    numbers = {trial.number: trial for trial in facts.search_trials}
    found = []
    for level in facts.levels:
        together = _told(level, "output_token_throughput", "avg")
        each = _told(level, "output_token_throughput_per_user", "p50")
        if level.state == "valid" and level.trial in numbers and math.isfinite(together) and math.isfinite(each):
            found.append((each, together, level))
    if len(found) < 2:
        return None
    found.sort(key=lambda point: (-point[0], -point[1]))
    front, highest = [], -math.inf
    for each, together, level in found:
        if together > highest:
            front.append((each, together, level))
            highest = together

    def tip(point: tuple[float, float, LevelRecord]) -> str:
        each, together, level = point
        return f"trial {level.trial}, {level.kind} {level.value:g}\n{short(together)} tokens/s\n{short(each)} tokens/s per user"

    on_front = {level.id for _, _, level in front}
    others = [point for point in found if point[2].id not in on_front]
    series = [
        Series("other levels", [(x, y) for x, y, _ in others], OTHER_INK, "dots", [tip(point) for point in others]),
        Series("Pareto front", [(x, y) for x, y, _ in front], WINNER_INK, "line", [tip(point) for point in front]),
    ]
    sides: list[tuple[str, Trial | None, int, Shape]] = [
        ("baseline", facts.summary.baseline, BASELINE_INK, "square"),
        ("winner", facts.summary.best, 3, "triangle"),
    ]
    for name, trial, ink, shape in sides:
        points = [point for point in found if trial is not None and point[2].trial == trial.number]
        if points:
            marked = [(x, y) for x, y, _ in points]
            series.append(Series(name, marked, ink, "dots", [tip(point) for point in points], shape=shape))
    return Chart(
        "Throughput for all against speed for each",
        f"{len(front)} of {len(found)} levels are beaten by none in both",
        "output tokens/s per user, median",
        "output tokens/s",
        [each for each in series if each.points],
        y_zero=True,
    )


def history_chart(facts: Facts) -> Chart | None:
    """Score of every trial, and the best so far."""
    good: list[Trial] = []
    broken: list[Trial] = []
    failed: list[Trial] = []
    steps: list[tuple[float, float]] = []
    best: float | None = None
    for trial in facts.search_trials:
        if trial.score is None:
            failed.append(trial)
        else:
            (good if trial.feasible else broken).append(trial)
        if trial.feasible and trial.score is not None and is_better(trial.score, best, maximize=facts.maximize):
            best = trial.score
        if best is not None:
            steps.append((float(trial.number), best))
    if not good and not broken:
        return None
    floor = min((trial.score for trial in (*good, *broken) if trial.score is not None), default=0.0)
    series = [
        Series("best so far", steps, WINNER_INK, "step", [""] * len(steps)),
        Series("meets every SLO", _scores(good), WINNER_INK, "dots", [trial_tip(facts, each) for each in good]),
        Series("breaks an SLO", _scores(broken), BAD_INK, "dots", [trial_tip(facts, each) for each in broken], "triangle"),
        Series("no result", [(float(each.number), floor) for each in failed], BAD_INK, "dots",
               [trial_tip(facts, each) for each in failed], "cross"),
    ]  # fmt: skip
    says = f"{len(facts.search_trials)} trials; the best reached {short(best) if best is not None else 'nothing'} {facts.unit}"
    shown = [each for each in series if each.points]
    return Chart(
        "Optimisation history",
        says,
        "trial",
        f"{facts.metric}, {facts.unit}",
        shown,
        y_zero=facts.maximize,
        x_whole=True,
    )


def _scores(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    return [(float(trial.number), trial.score) for trial in trials if trial.score is not None]


def trial_tip(facts: Facts, trial: Trial) -> str:
    """A trial in a few lines."""
    score = "no result" if trial.score is None else f"{short(trial.score)} {facts.unit}"
    lines = [f"trial {trial.number} ({trial.kind}, {trial.state})", score]
    if trial.failure is not None:
        lines.append(trial.failure.text[:120])
    changed = [f"{name} = {show(value)}" for name, value in trial.params.items()]
    return "\n".join([*lines, *changed[:12]])


def show(value: object) -> str:
    """A setting's value for a person."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.5g}"
    return word("none" if value is None else value)


def importance_shares(facts: Facts) -> list[tuple[str, float]]:
    """Knobs by their share of the spread of the results, most important first."""
    shares = mapping(mapping(facts.meta.get("importance")).get("shares"))
    known = [
        (word(name), share) for name, value in shares.items() if math.isfinite(share := number(value)) and share >= 0
    ]
    return sorted(known, key=lambda pair: -pair[1])[:MOST_KNOBS]


def effect_charts(facts: Facts) -> list[Chart]:
    """What each knob alone does to the score, the most important first."""
    effects = mapping(facts.meta.get("effects"))
    rank = {name: place for place, (name, _) in enumerate(importance_shares(facts))}
    found = []
    for name in sorted(effects, key=lambda name: rank.get(name, len(rank)))[:MOST_EFFECTS]:
        told = mapping(effects[name])
        columns = [listed(told.get(key)) for key in ("values", "score", "low", "high", "n")]
        values, scores, lows, highs, counts = columns
        if not values or len(values) != len(scores):
            continue
        points = [(float(place), number(score)) for place, score in enumerate(scores)]
        if not any(math.isfinite(y) for _, y in points):
            continue
        tips = [
            f"{name} = {show(value)}\n{short(number(score))} {facts.unit}"
            + (f"\n{show(counts[place])} trials" if place < len(counts) else "")
            for place, (value, score) in enumerate(zip(values, scores, strict=True))
        ]
        whiskers = len(lows) == len(highs) == len(values)
        series = Series(
            "", points, 4, tips=tips,
            low=[number(value) for value in lows] if whiskers else (),
            high=[number(value) for value in highs] if whiskers else (),
        )  # fmt: skip
        names = [show(value) for value in values]
        says = ", ".join(f"{value}: {short(y)}" for value, (_, y) in zip(names, points, strict=True))
        found.append(Chart(word(name), says, word(name), facts.unit, [series], x_names=names, height=0.75))
    return found


def distribution_charts(comparison: Comparison) -> list[Chart]:
    """The sides' distributions over each other, at the first load compared."""
    if not comparison.loads:
        return []
    load = comparison.loads[0]
    names = [side.name for side in comparison.sides]
    return [_distribution_chart(each, names, load.label) for each in load.distributions]


def _distribution_chart(told: Distribution, names: Sequence[str], load: str) -> Chart:
    inks = (BASELINE_INK, WINNER_INK, 2, 3, 4, 5)
    middles = [(low + high) / 2 for low, high in pairwise(told.edges)]
    series = [
        Series(
            name,
            [(x, share * 100) for x, share in zip(middles, shares, strict=True)],
            inks[place % len(inks)],
            "area",
            [f"{name}\n{short(x)} {told.unit}: {share:.1%}" for x, share in zip(middles, shares, strict=True)],
        )
        for place, (name, shares) in enumerate(zip(names, told.shares, strict=True))
        if shares
    ]
    title = f"Distribution of {told.metric.upper()}"
    return Chart(
        title, f"at {load}", f"{told.metric.upper()}, {told.unit}", "% of values", series, y_zero=True, height=0.8
    )
