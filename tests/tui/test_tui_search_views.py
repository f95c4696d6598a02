"""What the worker tells about its search, drawn; and drawn harmlessly whatever it is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.tui.sample_session import SEARCHED
from tests.tui.screen_helpers import text_of
from tui.glyphs import ASCII, BRAILLE
from tui.search_facts import SearchFacts, search_facts
from tui.trial_rows import detail_lines
from tui.widgets.effect_chart import effect_rows
from tui.widgets.importance_bars import importance_rows
from tui.widgets.pareto_plot import pareto_rows
from tui.widgets.queue_list import queue_rows
from tui.widgets.search_views import VIEWS, search_rows

if TYPE_CHECKING:
    from tui.snapshot import Snapshot


def with_search(snapshot: Snapshot, search: SearchFacts) -> Snapshot:
    return replace(snapshot, facts=replace(snapshot.facts, search=search))


def test_importances_come_largest_first_with_their_method(end_snapshot: Snapshot) -> None:
    rows = text_of(importance_rows(end_snapshot, 60, 10, BRAILLE)).splitlines()

    assert "ped-anova, 7 trials" in rows[0]
    assert rows[1].split()[:3] == ["max_batch_size", "46", "%"]
    assert rows[1].count("█") > rows[2].count("█") > rows[3].count("█")


def test_effect_shows_every_value_with_interval_and_count(end_snapshot: Snapshot) -> None:
    rows = text_of(effect_rows(end_snapshot, "max_batch_size", 60, 10, BRAILLE)).splitlines()

    assert len(rows) == 8
    assert rows[5].split()[:2] == ["768", "6650"]
    assert rows[5].rstrip().endswith("n 1")
    assert rows[5].index("o") > rows[1].index("o")


def test_effect_of_many_values_keeps_the_ends(end_snapshot: Snapshot) -> None:
    rows = text_of(effect_rows(end_snapshot, "max_batch_size", 60, 4, BRAILLE)).splitlines()

    assert [row.split()[0] for row in rows[1:]] == ["8", "512", "2048"]


def test_front_is_drawn_with_the_numbers_of_its_trials(end_snapshot: Snapshot) -> None:
    text = text_of(pareto_rows(end_snapshot, 70, 14, BRAILLE))

    assert text.count("★") == 4
    assert "hypervolume 0.71" in text
    assert "output_token_throughput_per_user" in text


def test_queue_says_what_waits_and_why(end_snapshot: Snapshot) -> None:
    text = text_of(queue_rows(end_snapshot, 80, 8, BRAILLE))

    assert "1 enqueued by hand  max_batch_size=640  enable_chunked_prefill=on" in text


def test_detail_tells_what_limited_a_trial_and_how_good_its_answers_are(end_snapshot: Snapshot) -> None:
    selected = replace(end_snapshot, selected=end_snapshot.trials[6], selected_levels=())

    text = "\n".join("".join(part for part, _ in line) for line in detail_lines(selected))

    assert "diagnosis  the GPUs run into their power limit" in text
    assert "power 700 of 700 W" in text
    assert "move  tensor_parallel_size" in text
    assert "998 of 1000 answers" in text


def test_views_say_that_they_are_of_the_end_when_an_earlier_moment_is_looked_at(
    end_snapshot: Snapshot, busy_snapshot: Snapshot
) -> None:
    for first, view in enumerate(VIEWS):
        now = text_of(search_rows(end_snapshot, first, "max_batch_size", (59, 11), BRAILLE))
        before = text_of(search_rows(busy_snapshot, first, "max_batch_size", (59, 11), BRAILLE))
        growing = replace(busy_snapshot, state=replace(busy_snapshot.state, live=True))
        live = text_of(search_rows(growing, first, "max_batch_size", (59, 11), BRAILLE))

        assert "as at the end" not in now
        assert ("as at the end of the session" in before) == (view != "history")
        assert ("as of now" in live) == (view != "history")


@pytest.mark.parametrize("size", [(30, 4), (40, 12), (59, 15), (133, 40), (200, 60)])
@pytest.mark.parametrize("told", [True, False])
def test_views_fit_their_space(end_snapshot: Snapshot, size: tuple[int, int], told: bool) -> None:
    snapshot = end_snapshot if told else with_search(end_snapshot, SearchFacts())
    before = replace(snapshot, at_ns=snapshot.end_ns - 1)

    for first, moment in itertools.product(range(len(VIEWS)), (snapshot, before)):
        rows = search_rows(moment, first, "max_batch_size", size, BRAILLE)
        assert len(rows) <= size[1]
        assert all(len(text_of([row])) <= size[0] for row in rows)


def test_ascii_views_are_ascii(end_snapshot: Snapshot) -> None:
    for draw in (importance_rows, pareto_rows, queue_rows):
        assert text_of(draw(end_snapshot, 70, 12, ASCII)).isascii()


NONSENSE: tuple[Any, ...] = (None, 3, "x", [], {}, [None], {"shares": {"a": "b"}}, {"front": [1]}, {"x": {"values": 3}})


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize("name", sorted(SEARCHED))
def test_nonsense_is_left_out(end_snapshot: Snapshot, name: str, value: Any) -> None:
    snapshot = with_search(end_snapshot, search_facts({**SEARCHED, name: value}))

    search_rows(snapshot, 0, "max_batch_size", (133, 40), BRAILLE)
    detail_lines(snapshot)
