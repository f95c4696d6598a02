"""The sections of a report's page; one that has nothing to tell is None."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import orjson

from sessions.json_values import mapping, number
from sessions.metrics import METRICS
from sessions.report import figures, outcome
from sessions.report.charts import Chart, figure
from sessions.report.figures import show
from sessions.report.markup import Element, add, breakable, tag
from sessions.report.scales import short
from sessions.report.tables import Cell, table
from sessions.report.timelines import clock, engine_charts, gpu_charts
from sessions.rows import word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.comparison import Comparison, LoadComparison
    from sessions.records import Trial
    from sessions.report.facts import Facts

MOST_PARAMS = 60

LEVEL_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("output tok/s", "output_token_throughput", "avg"),
    ("req/s", "request_throughput", "avg"),
    ("TTFT p50 ms", "ttft", "p50"),
    ("TTFT p99 ms", "ttft", "p99"),
    ("ITL p50 ms", "itl", "p50"),
    ("ITL p99 ms", "itl", "p99"),
    ("TPOT p50 ms", "tpot", "p50"),
    ("TPOT p99 ms", "tpot", "p99"),
    ("E2E p99 ms", "e2e", "p99"),
    ("errors", "error_ratio", "avg"),
    ("client lag p99 ms", "client_lag", "p99"),
)


def verdict(facts: Facts) -> Element:
    """The verdict, and the winner's figures."""
    told = outcome.outcome(facts)
    box = tag(
        "section",
        tag("p", *breakable(told.headline), " (simulated)" if facts.simulated else None, class_="gain"),
        *(tag("p", line) for line in told.lines),
        class_=f"verdict {told.tone}",
        aria_label="Verdict",
    )
    shown = [
        tag(
            "li",
            tag("div", card.name, class_="name"),
            tag("div", card.value, class_="value"),
            tag("div", f"baseline {card.was}", class_="was") if card.was else None,
            tag(
                "div",
                f"limit {card.slo}: {'met' if card.met else 'BROKEN'}",
                class_="good-text" if card.met else "bad-text",
            )
            if card.slo
            else None,
        )
        for card in outcome.cards(facts)
    ]
    return tag("div", box, tag("ul", *shown, class_="cards", aria_label="Figures of the winner") if shown else None)


def configuration(facts: Facts) -> Element | None:
    """The winner's settings, and its configuration in every form, ready to copy."""
    best = facts.summary.best
    if best is None or (not best.params and not facts.exports):
        return None
    rows = [
        [tag("code", *breakable(name)), old, tag("strong", new) if new != old else new, text]
        for name, old, new, text in outcome.settings_rows(facts)
    ]
    forms = []
    for place, (name, text) in enumerate(facts.exports.items()):
        identity = f"form-{place}"
        copy = tag("button", "Copy", type="button", class_="plain", data_copies=identity, aria_label=f"Copy {name}")
        code = tag("pre", text, id=identity, tabindex="0", aria_label=name)
        forms.append(tag("details", tag("summary", name), tag("div", copy, class_="row"), code, open=place == 0))
    return _section(
        f"Winning configuration (trial {best.number})",
        table(["setting", "baseline", "winner", "what it is"], rows, "Settings of the winner", texts=(3,))
        if rows
        else None,
        *forms,
    )


def against_baseline(facts: Facts) -> Element | None:
    """Baseline and winner beside each other, with intervals and distributions."""
    if facts.comparison is None:
        return None
    return _section("Winner against baseline", *_comparison_parts(facts.comparison))


def comparison(told: Comparison) -> list[Element]:
    """The sections of a comparison's page."""
    return [
        _section("Results", *_comparison_parts(told)),
        _section("What differs", *_difference_tables(told)),
    ]


def _comparison_parts(told: Comparison) -> list[Element]:
    parts: list[Element] = []
    for load in told.loads:
        parts += [tag("h3", f"At {load.label}"), _load_table(told, load)]
    parts.append(tag("p", f"{told.method}. {_sentence(told.notes)}", class_="dim"))
    parts.append(_charts(figures.distribution_charts(told)))
    return parts


def _sentence(notes: Sequence[str]) -> str:
    return " ".join(f"{note[:1].upper()}{note[1:]}." for note in notes)


def _load_table(told: Comparison, load: LoadComparison) -> Element:
    first, *others = told.sides
    heads = ["metric", first.name]
    for side in others:
        heads += [side.name, "change", ""]
    rows: list[list[Cell]] = []
    for row in load.metrics:
        name = f"{row.label}, {row.unit}" if row.unit != "ratio" else row.label
        cells: list[Cell] = [
            tag("abbr", *breakable(name), title=METRICS[row.metric].help),
            outcome.estimate_words(row.estimates[0]),
        ]
        for estimate, change in zip(row.estimates[1:], row.changes[1:], strict=True):
            words = outcome.judgement(change)
            tone = {"better": "good-text", "worse": "bad-text"}.get(words)
            cells += [outcome.estimate_words(estimate), outcome.change_words(change), tag("span", words, class_=tone)]
        rows.append(cells)
    return table(
        heads, rows, f"Results at {load.label}", numeric=[place for place, head in enumerate(heads) if place and head]
    )


def _difference_tables(told: Comparison) -> list[Element]:
    names = [side.name for side in told.sides]
    found = []
    for heading, differences in (("Settings", told.params), ("Conditions", told.conditions)):
        found.append(tag("h3", heading))
        rows: list[list[Cell]] = [[each.name, *(show(value) for value in each.values)] for each in differences]
        found.append(table(["", *names], rows, heading) if rows else tag("p", "The same on every side."))
    return found


def against_load(facts: Facts) -> Element | None:
    """Throughput and latencies against the load."""
    charts = figures.load_charts(facts)
    return _section("Latency against load", _charts(charts)) if charts else None


def course(facts: Facts) -> Element | None:
    """The Pareto front, and how the search came to it."""
    found = [figures.pareto_chart(facts), figures.history_chart(facts) if len(facts.search_trials) > 1 else None]
    charts = [chart for chart in found if chart is not None]
    return _section("Pareto front and history", _charts(charts)) if charts else None


def importances(facts: Facts) -> Element | None:
    """Which knobs matter."""
    shares = figures.importance_shares(facts)
    if not shares:
        return None
    most = max(share for _, share in shares) or 1.0
    bars = tag("dl", class_="bars")
    for name, share in shares:
        bar = tag("svg", viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")
        add(bar, tag("rect", x="0", y="0", width=100 * share / most, height=10.0, class_="bar s0"))
        add(bars, tag("dt", tag("code", *breakable(name))), tag("dd", bar), tag("dd", f"{share:.1%}"))
    told = mapping(facts.meta.get("importance"))
    method = f"Share of the spread of the results, by {word(told.get('method', 'an unnamed method'))}"
    trials = f", from {show(told['trials'])} trials" if "trials" in told else ""
    return _section("Importance of the knobs", bars, tag("p", f"{method}{trials}.", class_="dim"))


def effects(facts: Facts) -> Element | None:
    """What each knob alone does."""
    charts = figures.effect_charts(facts)
    if not charts:
        return None
    note = tag(
        "p",
        "The objective at each value of one knob, the others as the model of the search averages them.",
        class_="dim",
    )
    return _section("Effect of each knob", note, _charts(charts, small=True))


def diagnosis(facts: Facts) -> Element | None:
    """What limits the winner and the baseline."""
    parts = []
    for name, trial in (("Winner", facts.summary.best), ("Baseline", facts.summary.baseline)):
        told = outcome.diagnosis_of(facts, trial)
        if told is not None and trial is not None and not (name == "Baseline" and trial is facts.summary.best):
            text, evidence = told
            lines = tag("ul", *(tag("li", line) for line in evidence)) if evidence else None
            parts.append(tag("div", tag("h3", f"{name} (trial {trial.number})"), tag("p", tag("strong", text)), lines))
    return _section("What limits it", *parts) if parts else None


def quality(facts: Facts) -> Element | None:
    """Whether altered models still answer as the unaltered one."""
    rows: list[list[Cell]] = [
        [trial, tag("span", passed, class_="bad-text" if passed == "failed" else None), agreement, text]
        for trial, passed, agreement, text in outcome.quality_rows(facts)
    ]
    return (
        _section("Quality gate", table(["trial", "gate", "agreement", "in words"], rows, "Quality gate", texts=(3,)))
        if rows
        else None
    )


def timeline(facts: Facts) -> Element | None:
    """GPUs and server over time."""
    charts = [*gpu_charts(facts), *engine_charts(facts)]
    if not charts:
        return None
    names = ", ".join(sorted({word(gpu.info.get("name", "")) for gpu in facts.gpus} - {""}))
    count = f"{len(facts.gpus)} × {names}. " if names else ""
    return _section(
        "GPU timeline", tag("p", f"{count}Averaged over spans of the session.", class_="dim"), _charts(charts)
    )


def levels(facts: Facts) -> Element | None:
    """Every level of the winner and the baseline, with its conditions."""
    rows: list[list[Cell]] = []
    for name, trial in (("winner", facts.summary.best), ("baseline", facts.summary.baseline)):
        if trial is None or (name == "baseline" and trial is facts.summary.best):
            continue
        for level in (level for level in facts.levels if level.trial == trial.number):
            numbers = [short(level.result.get(metric, {}).get(stat, math.nan)) for _, metric, stat in LEVEL_COLUMNS]
            notes = "; ".join(level.notes)
            rows.append(
                [f"{name}, trial {trial.number}", f"{level.kind} {level.value:g}", level.state, *numbers, notes]
            )
    if not rows:
        return None
    heads = ["of", "load", "state", *(heading for heading, _, _ in LEVEL_COLUMNS), "conditions"]
    last = 3 + len(LEVEL_COLUMNS)
    return _section(
        "Levels", table(heads, rows, "Levels of winner and baseline", numeric=range(3, last), texts=(last,))
    )


def conditions(facts: Facts) -> Element:
    """What it was measured with and on."""
    rows: list[list[Cell]] = [[name, show(value)] for name, value in facts.conditions.items()]
    parts: list[Element | None] = [table([], rows, "Conditions and versions")]
    for heading, value in (("Plan", facts.meta.get("plan")), ("Command and files of the winner", _launch(facts))):
        if value:
            text = orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
            code = tag("pre", text, tabindex="0", aria_label=heading)
            parts.append(tag("details", tag("summary", heading), code))
    return _section("Conditions and versions", *parts)


def _launch(facts: Facts) -> Any:
    best = facts.summary.best
    return dict(best.launch) if best is not None else None


def repeated(facts: Facts) -> Element | None:
    """Of a session that repeats another: how the results compare, and what could not be the same."""
    told = mapping(facts.meta.get("repeats"))
    if not told:
        return None
    name = word(told.get("session", "another session"))
    then, now = mapping(told.get("best")), facts.summary.best
    score = number(then.get("score"))
    lines = []
    if math.isfinite(score) and now is not None and now.score is not None and score:
        lines.append(
            f"Then trial {show(then.get('trial'))} won with {short(score)} {facts.unit}; now trial {now.number} with"
        )
        lines.append(f"{short(now.score)} {facts.unit} ({now.score / score - 1:+.1%}).")
    rows: list[list[Cell]] = [
        [what, show(before), show(after)] for what, before, after in outcome.changed_conditions(facts)
    ]
    return _section(
        f"Repeats {name}",
        tag("p", " ".join(lines)) if lines else None,
        tag("h3", "What could not be, or was not, the same"),
        table(["", "then", "now"], rows, "What was not the same")
        if rows
        else tag("p", "Nothing that is recorded: versions, GPUs, host and plan are the same."),
    )


def events(facts: Facts) -> Element | None:
    """What happened, operators' commands included."""
    if not facts.events:
        return None
    rows: list[list[Cell]] = [
        [clock(event.t_ns / 1e9), event.kind, "" if event.trial is None else str(event.trial), event.text]
        for event in facts.events
    ]
    content = table(["after", "what", "trial", "text"], rows, "Events", texts=(3,))
    return _section("Events", tag("details", tag("summary", f"{len(rows)} events"), content))


def trials(facts: Facts) -> Element | None:
    """All trials, to sort and to filter."""
    if not facts.trials:
        return None
    knobs = list(dict.fromkeys(name for trial in facts.trials for name in trial.params))[:MOST_PARAMS]
    heads = ["trial", "kind", "state", f"{facts.metric}, {facts.unit}", "limits", "ready s", *knobs, "why not"]
    rows = [_trial_row(trial, knobs) for trial in facts.trials]
    best = facts.summary.best
    marked = [place for place, trial in enumerate(facts.trials) if best is not None and trial.number == best.number]
    field = tag(
        "div",
        tag("label", "Filter ", for_="filter"),
        tag("input", id="filter", type="search", data_filters="trials", autocomplete="off"),
        class_="row",
    )
    numeric = (0, 3, 5)
    made = table(
        heads,
        rows,
        "All trials",
        numeric=numeric,
        identity="trials",
        sortable=True,
        marked=marked,
        texts=(len(heads) - 1,),
    )
    return _section("All trials", field, made)


def _trial_row(trial: Trial, knobs: Sequence[str]) -> list[Cell]:
    limits = {True: "met", False: "broken", None: ""}[trial.feasible]
    failure = "" if trial.failure is None else trial.failure.text
    return [
        str(trial.number),
        trial.kind,
        trial.state,
        "" if trial.score is None else f"{trial.score:.5g}",
        limits,
        "" if trial.ready_s is None else f"{trial.ready_s:.1f}",
        *(show(trial.params[name]) if name in trial.params else "" for name in knobs),
        failure,
    ]


def missing(facts: Facts) -> Element | None:
    """What the session does not say."""
    searched: tuple[tuple[object, str], ...] = (
        (facts.verdict, "a proof: baseline and winner were not run again in turn"),
        (figures.importance_shares(facts), "importances of the knobs: too few trials, or an older session"),
        (figures.effect_charts(facts), "effects of single knobs: too few trials, or an older session"),
        (facts.meta.get("diagnosis"), "a diagnosis of what limits the server"),
        (facts.meta.get("quality"), "a quality gate: no trial altered the model, or none was asked for"),
    )
    always: tuple[tuple[object, str], ...] = (
        (facts.gpus, f"GPU samples{_gpu_note(facts)}"),
        (facts.engine, "the server's own metrics"),
    )
    checks = (*searched, *always) if facts.meta.get("kind") == "tune" else always
    lines = [text for there, text in checks if not there] + list(facts.missing)
    return _section("Not in this session", tag("ul", *(tag("li", line) for line in lines))) if lines else None


def _gpu_note(facts: Facts) -> str:
    note = word(facts.meta.get("gpu_note") or "")
    return f": {note}" if note else ""


def workload_label(facts: Facts) -> str:
    """The workload in words."""
    return word(mapping(facts.meta.get("workload")).get("label", ""))


def _section(heading: str, *children: Element | None) -> Element:
    return tag("section", tag("h2", heading), *children)


def _charts(charts: Sequence[Chart], *, small: bool = False) -> Element:
    return tag("div", *(figure(chart) for chart in charts), class_="charts small" if small else "charts")
