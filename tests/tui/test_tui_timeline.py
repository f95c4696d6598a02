from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.tui.screen_helpers import text_of
from tui.glyphs import ASCII, BRAILLE
from tui.widgets.timeline import blocks_row, cell_of, marks_row

if TYPE_CHECKING:
    from tui.snapshot import Snapshot


def test_blocks_are_lettered_by_state_and_the_best_is_starred(end_snapshot: Snapshot) -> None:
    row = text_of([blocks_row(end_snapshot, 150, BRAILLE)])

    assert [label for label in ("o0", "o1", "x2", "o3", "-4", "!5", "★6", "s7") if label in row] == [
        "o0", "o1", "x2", "o3", "-4", "!5", "★6", "s7",
    ]  # fmt: skip


def test_blocks_are_in_proportion_to_time(end_snapshot: Snapshot) -> None:
    row = text_of([blocks_row(end_snapshot, 298, BRAILLE)])

    # Trial 3 lasts 48 s of 298 s, trial 2 lasts 18 s.
    assert abs((row.index("-4") - row.index("o3")) - 48) <= 2
    assert abs((row.index("o3") - row.index("x2")) - 18) <= 2


def test_marks_stand_above_their_moment(end_snapshot: Snapshot) -> None:
    middle = replace(end_snapshot, at_ns=end_snapshot.end_ns // 2)

    row = text_of([marks_row(middle, 100, BRAILLE)])

    assert row[50] == BRAILLE.here
    assert row.count(BRAILLE.star) == 4
    assert BRAILLE.note in row


def test_narrow_timeline_keeps_the_signs(end_snapshot: Snapshot) -> None:
    row = text_of([blocks_row(end_snapshot, 60, ASCII)])

    assert row.isascii()
    assert all(sign in row for sign in "ox-!*s")


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(1, 300))
def test_cell_is_inside_the_row(t_ns: int, end_ns: int, width: int) -> None:
    assert 0 <= cell_of(t_ns, end_ns, width) < width


def test_rows_have_exactly_the_width(end_snapshot: Snapshot) -> None:
    for width in (1, 7, 60, 200):
        assert len(text_of([blocks_row(end_snapshot, width, BRAILLE)])) == width
        assert len(text_of([marks_row(end_snapshot, width, BRAILLE)])) == width
