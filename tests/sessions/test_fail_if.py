"""Conditions on a comparison: how they are written, and when they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sessions.compare import compare, take_side
from sessions.comparison import Comparison
from sessions.errors import BadCondition, SessionError
from sessions.fail_if import FailIf
from sessions.reader import SessionReader
from tests.sessions.made import MadeTrial, Speed, write_session


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The second side's tokens come 30 % sooner; its first ones come 20 % later."""
    path = write_session(
        tmp_path_factory.mktemp("s") / "made.trtune",
        [
            MadeTrial({"max_batch_size": 8}, {8: Speed(), 16: Speed()}, "baseline"),
            MadeTrial({"max_batch_size": 64}, {8: Speed(ttft_ms=120, gap_ms=7), 16: Speed(ttft_ms=120, gap_ms=7)}),
        ],
    )
    with SessionReader(path) as reader:
        return compare([take_side(reader, 0), take_side(reader, 1)])


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("ttft_p50 > +5%", True),
        ("ttft_p50 > +40%", False),
        ("tpot_p50 > +5%", False),
        ("tpot_p50 < -10%", True),
        ("ttft_p50 > +10ms", True),
        ("ttft_p50_ms > +0.5s", False),
        ("ttft_p50 > 50", True),
        ("ttft_p50_ms<=50", False),
        ("error_ratio > 0.01", False),
        ("time_to_first_token_p50 > +5% at 8", True),
    ],
)
def test_a_condition_is_judged_at_every_load(told: Comparison, condition: str, holds: bool) -> None:
    found = FailIf.parse(condition).judge(told)

    assert {each.holds for each in found} == {holds}
    assert len(found) == (1 if " at " in condition else 2)


def test_significance_asks_for_the_whole_interval(told: Comparison) -> None:
    row = next(row for load, row in told.metric("ttft", "p50") if load.values[0] == 8)
    change = row.changes[1]
    assert change is not None
    assert change.relative is not None
    just_below = f"ttft_p50 > {change.relative - 0.001:+.2%} at 8"

    assert [each.holds for each in FailIf.parse(just_below).judge(told)] == [True]
    assert [each.holds for each in FailIf.parse(just_below).judge(told, significant=True)] == [False]
    assert [each.holds for each in FailIf.parse("ttft_p50 > +5% at 8").judge(told, significant=True)] == [True]
    assert [each.holds for each in FailIf.parse("ttft_p50 > +1ms at 8").judge(told, significant=True)] == [True]


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("ttft_p99 > 5%", "needs its sign"),
        ("ttft_p99 = +5%", "cannot be read: write for example"),
        ("speed > +5%", "no such metric"),
        ("ttft_p98 > +5%", "and no p98"),
        ("output_token_throughput_p50 < -5%", "of output_token_throughput there is avg"),
        ("output_token_throughput < 5ms", "is in tokens/s, not in ms"),
        ("ttft_p99_tokens > 5", "is in ms, not in tokens"),
        ("", "cannot be read"),
    ],
)
def test_what_is_no_condition_is_said(condition: str, why: str) -> None:
    with pytest.raises(BadCondition, match=why):
        FailIf.parse(condition)


def test_a_metric_in_seconds_is_compared_in_seconds() -> None:
    assert FailIf.parse("window < 10s").limit == 10
    assert FailIf.parse("window < 500ms").limit == 0.5
    assert FailIf.parse("ttft_p99 > +2s").limit == 2000


def test_a_side_on_which_it_was_not_measured_does_not_pass(tmp_path: Path) -> None:
    made = [MadeTrial({}, {8: Speed()}, "baseline"), MadeTrial({}, {8: Speed()}), MadeTrial({}, {16: Speed()})]
    with SessionReader(write_session(tmp_path / "made.trtune", made)) as reader:
        sides = [take_side(reader, number, f"side {number}") for number in range(3)]
    cut = [(replace(level, result={}), window) for level, window in sides[2].levels]
    told = compare([*sides[:2], replace(sides[2], levels=((replace(cut[0][0], value=8.0), cut[0][1]),))])

    with pytest.raises(SessionError, match="ttft p50 was not measured on both side 0 and side 2"):
        FailIf.parse("ttft_p50 > +50%").judge(told)


def test_what_was_not_measured_does_not_pass(told: Comparison) -> None:
    with pytest.raises(SessionError, match="was not measured on both made#0 and made#1 at load 99"):
        FailIf.parse("ttft_p50 > +5% at 99").judge(told)
