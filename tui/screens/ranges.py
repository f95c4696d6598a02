"""The form that edits the ranges of the search: narrow, widen, or fix a knob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import percent, value_text
from tui.knob_domains import HELP, Domain, domain_text, parse_domain
from tui.screens.form import Field, FieldProblem, FormScreen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.snapshot import SessionFacts

RangeChanges = dict[str, Domain]
"""New ranges by knob; those that were left as they are do not appear."""


def ranges_form(facts: SessionFacts) -> FormScreen:
    """The form; it gives `RangeChanges`. The most important knobs come first."""
    importance = facts.search.importance
    shares = dict(importance.shares) if importance is not None else {}
    knobs = sorted((knob for knob in facts.knobs if knob.name), key=lambda knob: -shares.get(knob.name, 0.0))
    before = [domain_text(knob) for knob in knobs]

    def read(texts: Sequence[str]) -> RangeChanges:
        changes: RangeChanges = {}
        for place, (knob, text) in enumerate(zip(knobs, texts, strict=True)):
            if text.strip() == before[place]:
                continue
            try:
                changes[knob.name] = parse_domain(knob, text)
            except ValueError as error:
                raise FieldProblem(place, str(error)) from error
        return changes

    fields = [
        Field(knob.name, told, f"baseline {value_text(knob.default)}" + _share(shares.get(knob.name)))
        for knob, told in zip(knobs, before, strict=True)
    ]
    return FormScreen(f"Ranges of the search: {HELP}", fields, read, "change")


def _share(share: float | None) -> str:
    return "" if share is None else f", explains {percent(share)}"
