"""Time that spans cover: overlaps count once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.clock import covered_ns

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda ends: (min(ends), max(ends))), max_size=8)


@pytest.mark.parametrize(
    ("spans", "covered"),
    [
        ([], 0),
        ([(0, 5), (7, 9)], 7),
        ([(0, 5), (3, 9)], 9),
        ([(0, 9), (2, 3)], 9),
        ([(7, 9), (0, 5)], 7),
        ([(4, 4)], 0),
    ],
)
def test_what_overlaps_counts_once(spans: list[tuple[int, int]], covered: int) -> None:
    assert covered_ns(spans) == covered


@given(SPANS)
def test_it_is_the_number_of_moments_in_any_span(spans: list[tuple[int, int]]) -> None:
    assert covered_ns(spans) == len({moment for begin, end in spans for moment in range(begin, end)})
