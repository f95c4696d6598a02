"""Prometheus text that is not trusted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines._prometheus import LARGEST, parse_page
from engines.errors import EngineError


@given(st.text() | st.from_regex(r"[a-z_:]{1,8}(\{[a-z]=\"[^\"\n]*\"\})? [-0-9.eE+naifNAIF]{1,6}\n", fullmatch=True))
def test_any_text_is_a_page_of_finite_values_or_refused(text: str) -> None:
    try:
        page = parse_page(text, "page")
    except EngineError:
        return

    values = [sample.value for series in page.series.values() for sample in series]
    assert all(abs(value) <= LARGEST for value in values)


@pytest.mark.parametrize("name", ["joules", "joules_total"])
def test_a_counter_keeps_the_name_it_has_on_the_page(name: str) -> None:
    page = parse_page(f"# TYPE {name} counter\n{name} 5\n", "page")

    assert page.total(name) == 5


def test_counters_add_up_and_gauges_take_the_largest_series() -> None:
    page = parse_page('a{pid="1"} 3\na{pid="2"} 4\n', "page")

    assert (page.total("a"), page.largest("a")) == (7, 4)
    assert page.labels("a") == {"pid": "1"}


def test_a_name_that_is_not_there_is_no_number() -> None:
    page = parse_page("a 1\n", "page")

    assert math.isnan(page.total("b"))
    assert math.isnan(page.largest("b"))
    assert page.total("b", "a") == 1
    assert page.labels("b") == {}
