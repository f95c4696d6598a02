"""The form that copies a trial's settings, to be changed by hand and checked before they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.formatting import value_text
from tui.knob_values import allowed_text, parse_value
from tui.screens.form import Field, FieldProblem, FormScreen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.records import Params
    from tui.snapshot import KnobFact


def enqueue_form(params: Params, knobs: Sequence[KnobFact]) -> FormScreen:
    """The form; it gives the settings.

    Args:
        params: Settings to start from.
        knobs: Domains; a setting without one cannot be changed and is sent as it is.
    """
    knobs = [knob for knob in knobs if knob.name]

    def read(texts: Sequence[str]) -> Params:
        wanted = dict(params)
        for place, (knob, text) in enumerate(zip(knobs, texts, strict=True)):
            try:
                wanted[knob.name] = parse_value(knob, text)
            except ValueError as error:
                raise FieldProblem(place, str(error)) from error
        return wanted

    fields = [Field(knob.name, value_text(params.get(knob.name, knob.default)), allowed_text(knob)) for knob in knobs]
    return FormScreen("Enqueue: run these settings next", fields, read, "enqueue")
