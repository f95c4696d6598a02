"""What came of a session, in the words that page, Markdown and picture share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from sessions.json_values import listed, mapping, number
from sessions.metrics import METRICS
from sessions.report.figures import show
from sessions.report.scales import short
from sessions.report.timelines import clock
from sessions.rows import word
from sessions.slo import slos_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sessions.comparison import Change, Estimate
    from sessions.records import Params, Trial
    from sessions.report.facts import Facts

SIMULATED = "SIMULATED: every number here is pretended by trtune's simulated server; nothing was measured on a GPU."

MOST_DEPTH = 8
"""Levels of a plan that are looked into."""

_SIGNS = {"<=": "≤", ">=": "≥"}

CARDS: tuple[tuple[str, str, str], ...] = (
    ("output_token_throughput", "avg", "Output tokens/s"),
    ("request_throughput", "avg", "Requests/s"),
    ("ttft", "p50", "TTFT p50"),
    ("ttft", "p99", "TTFT p99"),
    ("tpot", "p50", "TPOT p50"),
    ("tpot", "p99", "TPOT p99"),
    ("e2e", "p99", "E2E p99"),
    ("output_token_throughput_per_user", "p50", "Tokens/s per user"),
)
"""Metric, statistic and heading of the figures beside the verdict."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict in words.

    Attributes:
        tone: Whether it is good news, bad news, or neither.
        headline: The one thing to know.
        lines: What stands behind it.
    """

    tone: Literal["good", "bad", "open"]
    headline: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """One figure of the winner.

    Attributes:
        name: Heading.
        value: With its unit.
        was: What the baseline had; empty without one.
        slo: The limit on it in words, or an empty string.
        met: Whether it is met; None without a limit.
    """

    name: str
    value: str
    was: str
    slo: str
    met: bool | None


def title(facts: Facts) -> str:
    """Engine and model."""
    engine = mapping(facts.meta.get("engine"))
    parts = [word(engine.get(key) or "") for key in ("title", "model")]
    return " · ".join(part for part in parts if part) or facts.name


def when(facts: Facts) -> str:
    """When it ran and for how long."""
    try:
        began = datetime.fromtimestamp(facts.origin_utc_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        began = "at an unknown time"
    return f"{began}, {clock(facts.duration_s)}"


def outcome(facts: Facts) -> Outcome:
    """The verdict on a session."""
    best, baseline = facts.summary.best, facts.summary.baseline
    tail = _how_it_ended(facts)
    kind = facts.meta.get("kind")
    if kind != "tune":
        return _measured(facts, tail)
    if best is None:
        scored = any(trial.score is not None for trial in facts.trials)
        headline = "No configuration meets every limit" if scored else "Nothing was measured"
        return Outcome("bad", headline, tail)
    if baseline is None or baseline.number == best.number:
        return Outcome("open", "Nothing tried beats the baseline", (_reached(facts, best), *tail))
    told = facts.verdict
    if told:
        return _judged(facts, tail)
    gain = facts.summary.gain
    if gain is None:
        return Outcome("open", f"Best: {_reached(facts, best)}", ("the baseline gave no result to compare with", *tail))
    line = "Not proven: baseline and winner were measured once each, and the winner was chosen for being high."
    return Outcome("open", _gain_words(facts, gain), (line, *tail))


def _judged(facts: Facts, tail: tuple[str, ...]) -> Outcome:
    told = facts.verdict
    gain, low, high = (number(told.get(key)) for key in ("gain", "low", "high"))
    proven = told.get("proven") is True
    text = word(told.get("text", ""))
    headline = _gain_words(facts, gain) if math.isfinite(gain) else "Proven better" if proven else "Not proven"
    lines = [text[:1].upper() + text[1:]] if text else []
    if math.isfinite(low) and math.isfinite(high):
        lines.append(f"95 % interval of the gain: {low:+.1%} to {high:+.1%}.")
    if told.get("method"):
        lines.append(f"Method: {word(told['method'])}.")
    return Outcome("good" if proven else "open", headline, (*lines, *tail))


def _gain_words(facts: Facts, gain: float) -> str:
    stat = word(facts.objective.get("stat", "avg"))
    name = facts.metric if stat == "avg" else f"{facts.metric} {stat}"
    if facts.maximize:
        return f"{gain:+.1%} {name} over the baseline"
    return f"{name} {'lower' if gain >= 0 else 'higher'} by {abs(gain):.1%} than the baseline's"


def _measured(facts: Facts, tail: tuple[str, ...]) -> Outcome:
    levels = [level for level in facts.levels if level.state == "valid"]
    if not levels:
        return Outcome(
            "open", "Watched, not measured" if facts.meta.get("kind") == "watch" else "Nothing was measured", tail
        )
    most = max(levels, key=lambda level: level.result.get("output_token_throughput", {}).get("avg", -math.inf))
    value = most.result.get("output_token_throughput", {}).get("avg", math.nan)
    return Outcome("open", f"{short(value)} output tokens/s at {most.kind} {most.value:g}", tail)


def _reached(facts: Facts, trial: Trial) -> str:
    return f"trial {trial.number} reached {short(trial.score) if trial.score is not None else '?'} {facts.unit}"


def _how_it_ended(facts: Facts) -> tuple[str, ...]:
    if facts.running:
        return ("The session is not over: this is how it stands.",)
    return (f"Ended: {facts.ended}.",) if facts.ended else ()


def cards(facts: Facts) -> list[Card]:
    """The winner's figures beside the baseline's; of a bench, those of its best level."""
    best = facts.summary.best or facts.summary.baseline
    if best is None:
        return []
    before = facts.summary.baseline if facts.summary.baseline is not best else None
    limits = slos_of(facts.objective)
    found = []
    for metric, stat, name in CARDS:
        value = best.result.get(metric, {}).get(stat)
        if value is None or not math.isfinite(value):
            continue
        was = None if before is None else before.result.get(metric, {}).get(stat)
        slo = next((each for each in limits if (each.metric, each.stat) == (metric, stat)), None)
        found.append(
            Card(
                name,
                with_unit(value, metric),
                "" if was is None else with_unit(was, metric),
                "" if slo is None else f"{_SIGNS.get(slo.op, slo.op)} {slo.value:g} {METRICS[metric].unit}",
                None if slo is None else slo.holds(best.result),
            )
        )
    return found


def with_unit(value: float, metric: str) -> str:
    """A value with its metric's unit where that is short."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return f"{short(value)} ms" if unit == "ms" else short(value)


def settings_rows(facts: Facts) -> list[tuple[str, str, str, str]]:
    """Name, the baseline's value, the winner's value, and what it is, for every setting of the winner."""
    best, baseline = facts.summary.best, facts.summary.baseline
    if best is None:
        return []
    knobs = {word(told.get("name")): told for each in listed(facts.meta.get("knobs")) if (told := mapping(each))}
    before: Params = baseline.params if baseline is not None else {}
    names = dict.fromkeys([*best.params, *before])
    rows = []
    for name in names:
        knob = mapping(knobs.get(name))
        default = "the server's default" if "default" not in knob else show(knob["default"])
        old = show(before[name]) if name in before else default
        new = show(best.params[name]) if name in best.params else default
        rows.append((name, old, new, word(knob.get("help", ""))))
    return rows


def change_words(change: Change | None) -> str:
    """How much a metric changed, with its interval."""
    if change is None:
        return "–"
    if change.relative is None:
        return f"{change.absolute:+.3g}"
    interval = "" if change.low is None or change.high is None else f" ({change.low:+.1%} to {change.high:+.1%})"
    return f"{change.relative:+.1%}{interval}"


def judgement(change: Change | None) -> str:
    """Whether a change is one: better, worse, within the noise, or not known."""
    if change is None:
        return ""
    if change.significant is None:
        return "noise not known"
    if not change.significant:
        return "within noise"
    return {True: "better", False: "worse", None: "differs"}[change.better]


def estimate_words(estimate: Estimate | None) -> str:
    """A value with half its interval."""
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return short(estimate.value)
    return f"{short(estimate.value)} ± {short((estimate.high - estimate.low) / 2)}"


def diagnosis_of(facts: Facts, trial: Trial | None) -> tuple[str, tuple[str, ...]] | None:
    """What limits a trial in one line, and the evidence; None when nobody said."""
    told = mapping(mapping(facts.meta.get("diagnosis")).get(str(trial.number))) if trial is not None else {}
    if not told.get("text"):
        return None
    return word(told["text"]), tuple(word(line) for line in listed(told.get("evidence")))


def quality_rows(facts: Facts) -> list[tuple[str, str, str, str]]:
    """Trial, whether it passed, agreement, and the words, for every trial whose answers were checked."""
    found = []
    for name, value in mapping(facts.meta.get("quality")).items():
        told = mapping(value)
        passed = "passed" if told.get("passed") is True else "failed" if told.get("passed") is False else "not judged"
        agreement = number(told.get("agreement"))
        shown = f"{agreement:.1%}" if math.isfinite(agreement) else "–"
        found.append((word(name), passed, shown, word(told.get("text", ""))))
    return found


def changed_conditions(facts: Facts) -> list[tuple[str, Any, Any]]:
    """Of a session that repeats another: name, value then and value now of every condition and field of the plan that changed."""
    told = mapping(facts.meta.get("repeats"))
    pairs = (
        (mapping(told.get("conditions")), facts.conditions),
        (dict(_leaves(told.get("plan"), "plan")), dict(_leaves(facts.meta.get("plan"), "plan"))),
    )
    return [
        (word(name), then.get(name), now.get(name))
        for then, now in pairs
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and name.count(".") < MOST_DEPTH:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}")
    else:
        yield name, value
