from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.formatting import value_text
from tui.knob_values import allowed_text, parse_value
from tui.snapshot import KnobFact

BATCH = KnobFact("max_batch_size", "int", 1.0, 2048.0, (), 2048)
FRACTION = KnobFact("fraction", "float", 0.3, 0.98, (), 0.9)
CHUNKED = KnobFact("chunked", "bool", None, None, (), False)
POLICY = KnobFact("policy", "choice", None, None, ("NO_EVICT", "MAX_UTIL"), "NO_EVICT")
TENSOR = KnobFact("tp", "choice", None, None, (1, 2, 4), 1)
BLOCK = KnobFact("block", "int", None, None, (16, 32), None)


@pytest.mark.parametrize(
    ("knob", "text", "value"),
    [
        (BATCH, " 512 ", 512),
        (FRACTION, "0.85", 0.85),
        (CHUNKED, "on", True),
        (CHUNKED, "False", False),
        (POLICY, "MAX_UTIL", "MAX_UTIL"),
        (TENSOR, "4", 4),
        (BLOCK, "auto", None),
        (BLOCK, "32", 32),
    ],
)
def test_value_is_read(knob: KnobFact, text: str, value: object) -> None:
    read = parse_value(knob, text)

    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("knob", "text"),
    [
        (BATCH, "0"),
        (BATCH, "4096"),
        (BATCH, "12.5"),
        (BATCH, "many"),
        (BATCH, ""),
        (FRACTION, "nan"),
        (FRACTION, "1.5"),
        (CHUNKED, "maybe"),
        (POLICY, "max_util"),
        (TENSOR, "3"),
        (BLOCK, "17"),
        (BATCH, "auto"),
    ],
)
def test_refusal_names_knob_value_and_what_is_allowed(knob: KnobFact, text: str) -> None:
    with pytest.raises(ValueError, match=f"{knob.name}: '{text}' is not allowed, only ") as refusal:
        parse_value(knob, text)

    assert allowed_text(knob) in str(refusal.value)


@given(st.sampled_from([BATCH, FRACTION, CHUNKED, POLICY, TENSOR, BLOCK]), st.text(max_size=200))
def test_any_text_is_read_or_refused(knob: KnobFact, text: str) -> None:
    try:
        value = parse_value(knob, text)
    except ValueError:
        return
    assert parse_value(knob, value_text(value)) == value
