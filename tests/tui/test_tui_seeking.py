from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tui.seeking import HeldKey, neighbour_trial_ns, parse_moment, sample_step_ns

if TYPE_CHECKING:
    from tui.snapshot import Snapshot

S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        ("start", 0),
        ("end", 298),
        ("t3", 99),
        ("Trial 3", 99),
        ("best", 209.5),
        ("+5m", 298),
        ("-30s", 70),
        ("+500ms", 100.5),
        ("50%", 149),
        ("2:30", 150),
        ("0:02:30", 150),
        ("00:27:40utc", 60),
    ],
)
def test_moment_is_understood(end_snapshot: Snapshot, text: str, at_s: float) -> None:
    assert parse_moment(text, replace(end_snapshot, at_ns=100 * S)) == at_s * S


@pytest.mark.parametrize("text", ["", "t99", "tomorrow", "12", "5 apples", "%"])
def test_other_texts_are_refused_with_what_is_possible(end_snapshot: Snapshot, text: str) -> None:
    with pytest.raises(ValueError, match=r"no trial 99|is no moment: t17, best"):
        parse_moment(text, end_snapshot)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30))
def test_any_text_gives_a_moment_of_the_session_or_a_reason(end_snapshot: Snapshot, text: str) -> None:
    try:
        at_ns = parse_moment(text, end_snapshot)
    except ValueError:
        return
    assert 0 <= at_ns <= end_snapshot.end_ns


def test_neighbours_end_at_the_edges(end_snapshot: Snapshot) -> None:
    at_start = replace(end_snapshot, at_ns=0)

    assert neighbour_trial_ns(at_start, -1) is None
    assert neighbour_trial_ns(at_start, 1) == 40.5 * S
    assert neighbour_trial_ns(end_snapshot, 1) is None


def test_step_of_a_sample_is_that_of_the_quickest_source(busy_snapshot: Snapshot) -> None:
    assert sample_step_ns(busy_snapshot) == S // 2


def test_held_key_doubles_its_step_up_to_a_share_of_the_session() -> None:
    held = HeldKey()

    steps = [held.step_ns("right", 5 * S, 0.1 * press, 10_000 * S) / S for press in range(40)]

    assert steps[:4] == [5, 5, 5, 5]
    assert steps[4] == 10
    assert steps[8] == 20
    assert max(steps) == 100


def test_released_key_starts_again_with_a_small_step() -> None:
    held = HeldKey()
    for press in range(20):
        held.step_ns("right", 5 * S, 0.1 * press, 10_000 * S)

    assert held.step_ns("right", 5 * S, 10.0, 10_000 * S) == 5 * S
