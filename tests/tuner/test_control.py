"""What an operator wants reaches the trial that is meant."""

from __future__ import annotations

from tuner.control import Control


def test_a_skip_reaches_the_trial_that_is_named_and_no_other() -> None:
    control = Control()
    with control.child() as older, control.child() as newer:
        older.begin_trial(4)
        newer.begin_trial(7)

        assert control.skip(7) == 7

        assert (older.skipping, newer.skipping) == (False, True)
        assert (older.interrupt.is_set(), newer.interrupt.is_set()) == (False, True)


def test_a_skip_without_a_name_reaches_the_oldest_that_is_not_left_already() -> None:
    control = Control()
    with control.child() as waiting, control.child() as older, control.child() as newer:
        older.begin_trial(4)
        newer.begin_trial(7)

        assert [control.skip(), control.skip(), control.skip()] == [4, 7, None]
        assert not waiting.skipping


def test_a_skip_that_comes_too_late_leaves_the_next_trial_alone() -> None:
    control = Control()
    control.begin_trial(4)
    control.end_trial()

    assert control.skip() is None
    control.begin_trial(5)
    assert control.skip(4) is None
    assert not control.skipping
    assert not control.interrupt.is_set()


def test_the_end_reaches_every_trial_and_a_new_one_too() -> None:
    control = Control()
    with control.child() as one:
        control.end()
        with control.child() as another:
            assert one.interrupt.is_set()
            assert another.interrupt.is_set()
