"""A session as Markdown, for a pull request or a job's summary: no picture, no HTML, tables that any viewer shows."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from sessions.report.figures import importance_shares, show
from sessions.report.outcome import (
    SIMULATED,
    cards,
    change_words,
    changed_conditions,
    diagnosis_of,
    estimate_words,
    judgement,
    outcome,
    quality_rows,
    settings_rows,
    title,
    when,
)
from sessions.report.scales import short
from sessions.rows import word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sessions.comparison import Comparison
    from sessions.report.facts import Facts

MOST_TRIALS = 50
_SPECIAL = re.compile(r"[\\`*{}\[\]<>|~$&]|(?<!\w)_|_(?!\w)|^[#+-]")
_NO_LINK = "&#8203;"
"""A space without width: parts what a viewer would take for a link or a mention."""


def report_markdown(facts: Facts) -> str:
    """The report of a session."""
    return "\n".join(_report(facts)) + "\n"


def comparison_markdown(told: Comparison) -> str:
    """Two or more trials beside each other."""
    return (
        "\n".join([f"## {plain(' against '.join(side.name for side in reversed(told.sides)))}", *_compared(told)])
        + "\n"
    )


def plain(text: object) -> str:
    """A text that Markdown takes as it is: no links, no mentions, no HTML."""
    escaped = _SPECIAL.sub(lambda match: f"\\{match[0]}", word(text))
    return escaped.replace("://", f":{_NO_LINK}//").replace("@", f"@{_NO_LINK}")


def code_block(text: str) -> list[str]:
    """A block of code with a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return [fence, *(word(line) for line in text.rstrip("\n").split("\n")), fence]


def _report(facts: Facts) -> Iterator[str]:
    told = outcome(facts)
    yield f"## {plain(title(facts))}"
    if facts.simulated:
        yield from ("", f"> **{SIMULATED}**")
    simulated = " (simulated)" if facts.simulated else ""
    yield from ("", f"**{plain(told.headline)}{simulated}**", "")
    yield from (f"{plain(line)}  " for line in told.lines)
    yield from (
        "",
        f"{plain(facts.name)}, {plain(when(facts))}  ",
        f"Objective: {plain(facts.objective.get('label', ''))}",
    )
    shown = cards(facts)
    if shown:
        has_baseline = any(card.was for card in shown)
        rows = [
            [
                card.name,
                card.value,
                *([card.was] if has_baseline else []),
                f"{card.slo} {'met' if card.met else 'BROKEN'}" if card.slo else "",
            ]
            for card in shown
        ]
        yield from _table(["", "winner", *(["baseline"] if has_baseline else []), "limit"], rows)
    settings = [row[:3] for row in settings_rows(facts)]
    if settings and facts.summary.best is not None:
        yield from ("", f"### Winning configuration (trial {facts.summary.best.number})")
        yield from _table(["setting", "baseline", "winner"], settings)
    if facts.exports:
        name, text = next(iter(facts.exports.items()))
        yield from ("", f"<details><summary>{escape(word(name))}</summary>", "", *code_block(text), "", "</details>")
    if facts.comparison is not None:
        yield from ("", "### Winner against baseline", *_compared(facts.comparison))
    yield from _knowledge(facts)
    changed = changed_conditions(facts) if facts.meta.get("repeats") else []
    if changed:
        yield from ("", "### Not the same as in the session that this one repeats")
        yield from _table(["", "then", "now"], [[name, show(then), show(now)] for name, then, now in changed])
    yield from ("", "### Trials")
    rows = [
        [str(trial.number), trial.kind, trial.state, "" if trial.score is None else short(trial.score),
         {True: "met", False: "broken", None: ""}[trial.feasible], "" if trial.failure is None else trial.failure.text]
        for trial in facts.trials[:MOST_TRIALS]
    ]  # fmt: skip
    yield from _table(["trial", "kind", "state", f"{facts.metric} ({facts.unit})", "limits", "why not"], rows)
    if len(facts.trials) > MOST_TRIALS:
        yield from ("", f"and {len(facts.trials) - MOST_TRIALS} more")
    yield from ("", "<details><summary>Conditions and versions</summary>", "")
    yield from _table(["", ""], [[name, show(value)] for name, value in facts.conditions.items()])
    yield from ("", "</details>")


def _knowledge(facts: Facts) -> Iterator[str]:
    """Importances, diagnosis, quality."""
    shares = importance_shares(facts)
    if shares:
        yield from ("", "### Importance of the knobs")
        yield from _table(["knob", "share"], [[name, f"{share:.1%}"] for name, share in shares])
    limits = diagnosis_of(facts, facts.summary.best)
    if limits is not None:
        yield from (
            "",
            f"**What limits the winner:** {plain(limits[0])}",
            "",
            *(f"- {plain(line)}" for line in limits[1]),
        )
    rows = [list(row) for row in quality_rows(facts)]
    if rows:
        yield from ("", "### Quality gate")
        yield from _table(["trial", "gate", "agreement", "in words"], rows)


def _compared(told: Comparison) -> Iterator[str]:
    first, *others = told.sides
    for load in told.loads:
        yield from ("", f"At {plain(load.label)}:")
        rows = []
        for row in load.metrics:
            cells = [f"{row.label}, {row.unit}", estimate_words(row.estimates[0])]
            for estimate, change in zip(row.estimates[1:], row.changes[1:], strict=True):
                cells += [estimate_words(estimate), change_words(change), judgement(change)]
            rows.append(cells)
        heads = ["metric", first.name]
        for side in others:
            heads += [side.name, "change", ""]
        yield from _table(heads, rows)
    for heading, differences in (("Settings that differ", told.params), ("Conditions that differ", told.conditions)):
        if differences:
            yield from ("", f"{heading}:")
            names = [side.name for side in told.sides]
            yield from _table(["", *names], [[each.name, *map(show, each.values)] for each in differences])
    yield from ("", f"{told.method}. " + " ".join(f"{note[:1].upper()}{plain(note[1:])}." for note in told.notes))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    for cells in (heads, ["---"] * len(heads), *rows):
        yield "| " + " | ".join(cell if cell == "---" else plain(cell) for cell in cells) + " |"
