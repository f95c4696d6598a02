from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.tui.screen_helpers import text_of
from tui.canvas import Canvas, dots
from tui.glyphs import ASCII, BLOCK, BRAILLE, Glyphs, bar, history
from tui.plotting import Plot, PlotSeries, TimeGrid, envelope, nice_top, plot_rows

S = 1_000_000_000
NAN = math.nan


def series(values: list[float], step_s: float = 1.0) -> PlotSeries:
    return PlotSeries("p99", "first", [round(place * step_s * S) for place in range(len(values))], values)


def test_envelope_keeps_the_spike_of_a_crowded_column() -> None:
    values = [1.0] * 100
    values[37] = 50.0
    grid = TimeGrid(0, 10 * S, 10)

    low, high = envelope(series(values), grid)

    assert high[3] == 50.0
    assert low[3] == 1.0


def test_envelope_passes_over_unknown_values() -> None:
    low, high = envelope(series([NAN, 2.0, NAN, NAN]), TimeGrid(0, 2 * S, 2))

    assert (low[0], high[0]) == (2.0, 2.0)
    assert math.isnan(low[1])


def test_grid_moves_by_whole_cells_as_time_goes_on() -> None:
    grids = {TimeGrid.over((t * S // 10, t * S // 10 + 100 * S), 50, 2).first for t in range(100)}

    assert all(first % 2 == 0 for first in grids)
    assert max(grids) - min(grids) <= 12


@given(st.floats(1e-6, 1e12))
def test_nice_top_is_just_above(value: float) -> None:
    top = nice_top(value)

    assert value * (1 - 1e-9) <= top <= 2.1 * value


@pytest.mark.parametrize("glyphs", [BRAILLE, BLOCK, ASCII], ids=lambda glyphs: glyphs.name)
@given(
    values=st.lists(st.one_of(st.floats(0, 1e9), st.just(NAN)), max_size=60),
    width=st.integers(1, 90),
    height=st.integers(1, 30),
)
def test_plot_fills_its_space_and_no_more(glyphs: Glyphs, values: list[float], width: int, height: int) -> None:
    plot = Plot("TTFT ms", (series(values),), (0, 60 * S), limits=(500.0,), marks_ns=(30 * S,))

    rows = plot_rows(plot, width, height, glyphs)

    assert len(rows) <= height
    assert all(sum(cell_len(text) for text, _ in row) <= width for row in rows)


def test_plot_shows_limit_far_above_the_data_as_text() -> None:
    rows = plot_rows(Plot("TTFT ms", (series([1.0, 2.0]),), (0, 10 * S), limits=(500.0,)), 60, 8, BRAILLE)

    assert "limit 500" in text_of(rows)
    assert BRAILLE.limit not in text_of(rows)


def test_plot_draws_limit_near_the_data() -> None:
    rows = plot_rows(Plot("TTFT ms", (series([400.0, 450.0]),), (0, 10 * S), limits=(500.0,)), 60, 8, BRAILLE)

    assert BRAILLE.limit in text_of(rows)


def test_plot_without_data_says_so() -> None:
    assert "no data" in text_of(plot_rows(Plot("TTFT ms", (), (0, 10 * S)), 60, 8, BRAILLE))


def test_gap_in_time_is_not_bridged() -> None:
    points = PlotSeries("x", "first", [0, 1 * S, 90 * S], [5.0, 5.0, 5.0])

    row = text_of(plot_rows(Plot("x", (points,), (0, 99 * S)), 56, 3, ASCII)).splitlines()[1]

    assert "   " in row[6:].strip()


def test_ascii_plot_is_ascii() -> None:
    rows = plot_rows(Plot("TTFT ms", (series([1.0, 5.0, 2.0]),), (0, 3 * S), (4.0,), (1 * S,)), 60, 12, ASCII)

    assert text_of(rows).isascii()


def test_dots_of_a_braille_cell_stand_where_they_were_put() -> None:
    canvas = Canvas(1, 1, BRAILLE)
    layer = canvas.layer("first")
    layer[0] |= dots(0, 0)
    layer[1] |= dots(3, 3)

    assert canvas.rows() == [((chr(0x2800 + 0x40 + 0x08), "first"),)]


def test_first_layer_gives_the_ink_of_a_shared_cell() -> None:
    canvas = Canvas(1, 1, BRAILLE)
    above, below = canvas.layer("above"), canvas.layer("below")
    below[0] |= dots(0, 3)
    above[0] |= dots(0, 0)

    assert canvas.rows()[0][0][1] == "above"


@given(st.floats(-2, 3), st.integers(0, 40))
def test_bar_has_its_width(ratio: float, width: int) -> None:
    assert all(len(bar(glyphs, ratio, width)) == width for glyphs in (BRAILLE, BLOCK, ASCII))


def test_small_share_is_never_drawn_as_nothing() -> None:
    assert history(BRAILLE, [0.01, 0.0, math.nan, -math.inf, 1.0, 7.0]) == "▁   ██"
