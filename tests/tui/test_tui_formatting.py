from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sessions.text import clean_line
from tui.formatting import clock_text, fit, fit_right, number, percent, shorten, span, utc_text, value_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.0712, "0.071"),
        (0.00034, "0.0003"),
        (-0.00001, "0"),
        (0.05, "0.05"),
        (8.6, "8.60"),
        (14.23, "14.2"),
        (335.4, "335"),
        (7410.0, "7410"),
        (412_000.0, "412k"),
        (2.5e9, "2.50G"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_percent_with_and_without_sign() -> None:
    assert percent(0.8) == "80 %"
    assert percent(0.031, signed=True) == "+3.1 %"
    assert percent(None) == "–"


def test_spans_and_moments() -> None:
    assert span(4.25) == "4.2 s"
    assert span(298) == "4 min 58 s"
    assert span(7 * 3600 + 120) == "7 h 02 min"
    assert clock_text(3_723_000_000_000) == "1:02:03"
    assert utc_text(1_789_000_000_000_000_000) == "2026-09-10 00:26:40"
    assert utc_text(0) == "–"
    assert utc_text(1 << 70) == "–"


def test_values_of_knobs() -> None:
    assert [value_text(value) for value in (True, False, None, 0.9, 512, "MAX")] == [
        "on",
        "off",
        "auto",
        "0.9",
        "512",
        "MAX",
    ]


@given(st.text(max_size=60).map(clean_line), st.integers(0, 40))
def test_fitted_text_takes_exactly_its_cells(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) == width
    assert cell_len(fit_right(text, width)) == width
    assert cell_len(shorten(text, width)) <= width


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_has_a_short_text(value: float) -> None:
    assert len(number(value)) <= 6 or abs(value) >= 1e12
