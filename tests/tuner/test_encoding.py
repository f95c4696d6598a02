"""The grid: configurations become numbers and come back unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuner.knobs import KNOBS
from tuner.plan import KnobRange
from tuner.search.encoding import RANGE_POINTS, build_grid
from tuner.search.space import build_space

SPACE = build_space(
    KNOBS,
    {
        "batch": (8, 16, 64),
        "fraction": KnobRange(low=0.5, high=0.9),
        "chunked": (False, True),
        "policy": ("a", "b"),
    },
    {},
)
GRID = build_grid(SPACE)


@given(st.integers(0, 2**31))
def test_what_is_decoded_encodes_to_the_same_row(seed: int) -> None:
    row = GRID.draw(np.random.default_rng(seed), 1)[0]

    assert (GRID.encode(GRID.decode(row)) == row).all()
    assert SPACE.contains(GRID.decode(row))


def test_a_range_becomes_a_grid_and_numbers_keep_their_order() -> None:
    batch, fraction, *_ = GRID.axes

    assert len(fraction.values) == RANGE_POINTS
    assert list(batch.places[:, 0]) == pytest.approx([0, 1 / 3, 1]), "a wide range of sizes is laid out by ratios"
    assert fraction.place(0.7)[0] == pytest.approx(0.5)


def test_neighbours_differ_in_exactly_one_knob() -> None:
    row = GRID.encode({"batch": 16, "fraction": 0.9, "chunked": True, "policy": "b"})

    differing = (GRID.neighbours(row) != row).sum(axis=1)

    assert set(differing) == {1}
    assert len(differing) == 2 + (RANGE_POINTS - 1) + 1 + 1


def test_a_knob_without_effect_has_its_usual_value() -> None:
    rows = np.stack([GRID.encode({"batch": 8, "fraction": 0.5, "chunked": False, "policy": each}) for each in "ab"])

    assert len(GRID.canonical(rows)) == 1
