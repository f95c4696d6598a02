"""A session as one HTML page that needs nothing else: no network, no other file.

The page may run one script and use one style sheet, both named by their hash in its security policy. Whatever comes from the
session is text.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from sessions.report import sections
from sessions.report.markup import Element, add, html, raw, tag
from sessions.report.outcome import SIMULATED, title, when
from sessions.rows import word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.comparison import Comparison
    from sessions.report.facts import Facts


def report_page(facts: Facts) -> str:
    """The report of a session."""
    parts = [
        sections.verdict(facts),
        sections.configuration(facts),
        sections.against_baseline(facts),
        sections.against_load(facts),
        sections.course(facts),
        sections.importances(facts),
        sections.effects(facts),
        sections.diagnosis(facts),
        sections.quality(facts),
        sections.timeline(facts),
        sections.levels(facts),
        sections.repeated(facts),
        sections.conditions(facts),
        sections.events(facts),
        sections.trials(facts),
        sections.missing(facts),
    ]
    objective = word(facts.objective.get("label", ""))
    head = tag(
        "header",
        tag("h1", title(facts)),
        tag("p", f"{facts.name} · {when(facts)}", class_="meta"),
        tag("p", f"Objective: {objective}", class_="meta") if objective else None,
        tag("p", f"Workload: {workload}", class_="meta") if (workload := sections.workload_label(facts)) else None,
        tag("p", SIMULATED, class_="simulated", role="note") if facts.simulated else None,
        class_="top",
    )
    name = f"trtune report: {title(facts)}{' (simulated)' if facts.simulated else ''}"
    return _page(name, head, [part for part in parts if part is not None])


def comparison_page(comparison: Comparison) -> str:
    """Two or more trials beside each other."""
    names = " against ".join(side.name for side in reversed(comparison.sides))
    simulated = any(side.simulated for side in comparison.sides)
    head = tag(
        "header",
        tag("h1", names),
        tag("p", SIMULATED, class_="simulated", role="note") if simulated else None,
        class_="top",
    )
    return _page(f"trtune compare: {names}", head, sections.comparison(comparison))


def _page(name: str, head: Element, parts: Sequence[Element]) -> str:
    folder = files("sessions.report")
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    body = tag("body", head, tag("main", *parts), _foot(), raw("script", script))
    # No attribute set by `raw` may come from a session.
    document = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            add(tag("meta", http_equiv="Content-Security-Policy", content=policy)),
            tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name_="referrer", content="no-referrer"),
            tag("title", name),
            raw("style", style),
        ),
        body,
        lang="en",
    )
    return "<!DOCTYPE html>\n" + html(document) + "\n"


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _foot() -> Element:
    return tag(
        "footer",
        tag(
            "p",
            "Made by trtune from the session file alone. Metrics: ttft, tpot, itl and others are defined in docs/metrics.md.",
        ),
    )
