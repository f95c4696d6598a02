"""Trials as text: what a row of the table and the detail of one trial say."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sessions.clock import NS_PER_S
from sessions.text import clean_line
from tui.formatting import metric_label, number, percent, short_name, shorten, span, value_text
from tui.snapshot import changed_params

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessions.records import Metrics, Params, Trial
    from tui.snapshot import ObjectiveFact, Snapshot

STATE_INKS = {
    "running": "accent",
    "complete": "ok",
    "pruned": "dim",
    "infeasible": "warn",
    "failed": "bad",
    "skipped": "dim",
    "interrupted": "warn",
}
KIND_WORDS = {"baseline": "base", "search": "search", "enqueued": "by hand", "proof": "proof", "bench": "bench"}


@dataclass(frozen=True, slots=True)
class TrialRow:
    """What one row of the trial table shows; equal rows need no redraw."""

    number: int
    kind: str
    state: str
    ink: str
    changes: str
    score: str
    ttft_p99: str
    tpot_p99: str
    gain: str
    best: bool


def baseline_params(snapshot: Snapshot) -> Params:
    """The configuration that others are compared with: the baseline's; what it leaves open is the server's default."""
    defaults: Params = {knob.name: knob.default for knob in snapshot.facts.knobs}
    baseline = next((trial for trial in snapshot.trials if trial.kind == "baseline"), None)
    return defaults if baseline is None else {**defaults, **baseline.params}


def changes_text(params: Params, base: Params) -> str:
    """What differs from the baseline, in a few words."""
    changed = changed_params(params, base)
    if not changed:
        return "as the baseline" if base else ""
    return "  ".join(
        f"{clean_line(short_name(name))}={clean_line(value_text(value))}" for name, value in changed.items()
    )


def metric_value(result: Metrics, metric: str, stat: str) -> float | None:
    """A number of a result; None when it has none, whatever a stranger's file holds there."""
    stats = result.get(metric) if isinstance(result, dict) else None
    value = stats.get(stat) if isinstance(stats, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def score_label(objective: ObjectiveFact, *, unit: bool = True) -> str:
    """What a score is, for a heading: its unit where that says it; of a latency, of which there are several, its name.

    Args:
        objective: What is searched for.
        unit: Whether the unit of a latency is told, too.
    """
    if objective.unit == "ms":
        return metric_label(objective.metric, objective.stat, "ms" if unit else "")
    return objective.unit or objective.metric or "score"


def trial_row(snapshot: Snapshot, trial: Trial, base: Params) -> TrialRow:
    """One row of the table of trials."""
    state = trial.state
    if trial.state == "running" and snapshot.running is trial and snapshot.phase is not None:
        state = snapshot.phase.name
    gain = snapshot.gain_ratio(trial)
    best = snapshot.best is not None and trial.number == snapshot.best.number
    return TrialRow(
        number=trial.number,
        kind=KIND_WORDS.get(trial.kind, trial.kind),
        state=state,
        ink=STATE_INKS.get(trial.state, ""),
        changes=changes_text(trial.params, base) if trial.kind != "baseline" else "the baseline",
        score=number(trial.score),
        ttft_p99=number(metric_value(trial.result, "ttft", "p99")),
        tpot_p99=number(metric_value(trial.result, "tpot", "p99")),
        gain="" if trial.kind == "baseline" else percent(gain, signed=True),
        best=best,
    )


Line = tuple[tuple[str, str], ...]
"""Text with inks."""


def detail_lines(snapshot: Snapshot, width: int = 80) -> list[Line]:
    """Everything about the selected trial, most wanted first; its tables are as wide as there is room."""
    trial = snapshot.selected
    if trial is None:
        return [(("no trial yet", "dim"),)]
    lines = [_headline(snapshot, trial)]
    if trial.failure is not None:
        lines += _failure_lines(trial)
    lines += _judgement_lines(snapshot, trial)
    lines += _level_lines(snapshot, width)
    lines += _param_lines(snapshot, trial)
    if command := launch_command(trial.launch):
        lines.append((("command  ", "dim"), (command, "")))
    return lines


def launch_command(launch: Mapping[str, Any]) -> str:
    """The command line of a launch, as typed in a shell; empty when there is none."""
    words = launch.get("argv") or launch.get("command") or ()
    return shlex.join(clean_line(str(word)) for word in words) if isinstance(words, list) else clean_line(str(words))


def _judgement_lines(snapshot: Snapshot, trial: Trial) -> list[Line]:
    """What limited the trial, with the evidence, and whether its answers are still good."""
    lines: list[Line] = []
    found = snapshot.facts.search.diagnoses.get(trial.number)
    if found is not None and found.text:
        lines.append((("diagnosis  ", "dim"), (found.text, "accent")))
        lines += [((f"  {line}", "dim"),) for line in found.evidence]
        if found.knob:
            lines.append((("move  ", "dim"), (found.knob, "warn")))
    quality = snapshot.facts.search.quality.get(trial.number)
    if quality is not None and quality.text:
        lines.append((("quality  ", "dim"), (quality.text, "ok" if quality.passed else "bad")))
    return lines


def _headline(snapshot: Snapshot, trial: Trial) -> Line:
    end_ns = trial.end_ns if trial.end_ns is not None else snapshot.at_ns
    pieces = [
        (f"trial {trial.number} ", "strong"),
        (f"{trial.kind} ", "dim"),
        (trial.state, STATE_INKS.get(trial.state, "")),
        (f"  {span((end_ns - trial.start_ns) / NS_PER_S)}", ""),
    ]
    if trial.ready_s is not None:
        pieces.append((f", ready after {span(trial.ready_s)}", "dim"))
    if trial.feasible is False and trial.state != "skipped":
        pieces.append(("  misses an SLO", "warn"))
    return tuple(pieces)


def _failure_lines(trial: Trial) -> list[Line]:
    failure = trial.failure
    if failure is None:
        return []
    lines: list[Line] = [((f"{failure.kind.replace('_', ' ')}: ", "bad"), (failure.text, ""))]
    if failure.line:
        lines.append((("server  ", "dim"), (failure.line, "bad")))
    if failure.accuses:
        lines.append((("accuses  ", "dim"), (clean_line(", ".join(failure.accuses)), "warn")))
    return lines


LEVEL_COLUMNS = (
    ("TTFT p99", "ttft", "p99"),
    ("ITL p50", "itl", "p50"),
    ("TPOT p99", "tpot", "p99"),
    ("E2E p99", "e2e", "p99"),
)
"""Latencies of a level, in ms."""


def _level_lines(snapshot: Snapshot, width: int) -> list[Line]:
    """A small table: a row per level; what only one level has to say for itself comes below it."""
    levels = snapshot.selected_levels
    if not levels:
        return []
    objective = snapshot.facts.objective
    score = shorten(score_label(objective, unit=False), 9)
    told = [
        column
        for column in LEVEL_COLUMNS
        if column[1:] != (objective.metric, objective.stat)
        and any(metric_value(level.result, *column[1:]) is not None for level in levels)
    ]
    told = told[: max(0, (width - 29) // 10)]
    kind = "concurrency" if levels[0].kind == "concurrency" else "req/s"
    head = f"{kind:<12}{'':<8}{score:>9}" + "".join(f"{label:>{len(label) + 2}}" for label, _, _ in told)
    lines: list[Line] = [((head, "dim"),)]
    common = set.intersection(*(set(level.notes) for level in levels)) if len(levels) > 1 else set()
    for level in levels:
        ink = {"valid": "ok", "running": "accent", "invalid": "warn", "aborted": "dim"}.get(level.state, "")
        numbers = "".join(f"{number(metric_value(level.result, *column[1:])):>{len(column[0]) + 2}}" for column in told)
        value = metric_value(level.result, objective.metric, objective.stat)
        lines.append(((f"{level.value:>10g}  ", ""), (f"{level.state:<8}", ink), (f"{number(value):>9}{numbers}", "")))
        own = [note for note in level.notes if note not in common]
        if own and level.state != "valid":
            lines.append(((f"{'':<12}{'; '.join(own)}", "warn" if level.state == "invalid" else "dim"),))
    if common or len(levels) == 1:
        lines.append(
            ((f"{'':<12}{'; '.join(note for note in levels[0].notes if note in common or len(levels) == 1)}", "dim"),)
        )
    return [line for line in lines if any(text.strip() for text, _ in line)]


def _param_lines(snapshot: Snapshot, trial: Trial) -> list[Line]:
    base = baseline_params(snapshot)
    lines: list[Line] = []
    for name, value in trial.params.items():
        changed = name not in base or base[name] != value
        pieces = [(f"{clean_line(name)} ", "" if changed else "dim"), (clean_line(value_text(value)), _ink(changed))]
        if changed and name in base:
            pieces.append((f"  baseline {clean_line(value_text(base[name]))}", "dim"))
        effective = trial.effective.get(name, value)
        if effective != value:
            pieces.append((f"  the server took {clean_line(value_text(effective))}", "warn"))
        lines.append(tuple(pieces))
    lines.sort(key=lambda line: line[0][1] == "dim")
    return lines + _extra_lines(trial.effective, trial.params)


def _extra_lines(effective: Mapping[str, object], params: Params) -> list[Line]:
    return [
        ((f"{clean_line(name)} ", "dim"), (clean_line(value_text(value)), "dim"), ("  read back", "dim"))
        for name, value in effective.items()
        if name not in params
    ]


def _ink(changed: bool) -> str:
    return "accent" if changed else "dim"
