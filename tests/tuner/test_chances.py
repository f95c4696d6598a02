"""Chances: failures weigh on their neighbours and on what they alone have in common, and the gate on the precision."""

from __future__ import annotations

import numpy as np

from tuner.search.chances import chance_to_pass, chance_to_start


def rows(*each: tuple[int, ...]) -> np.ndarray:
    return np.array(each, dtype=np.int64).reshape(len(each), 4)


def test_without_failures_everything_starts() -> None:
    assert list(chance_to_start(rows((0, 0, 0, 0)), rows((1, 1, 1, 1)), rows(), [])) == [1.0]


def test_a_pair_never_seen_to_work_is_suspected() -> None:
    worked = rows((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 1))
    failed = rows((1, 1, 0, 0))

    suspect, innocent = chance_to_start(rows((1, 1, 1, 1), (1, 0, 1, 1)), worked, failed, [()])

    assert suspect < 0.6 * innocent


def test_what_the_log_blames_is_suspected_most() -> None:
    failed = rows((1, 1, 1, 1))
    candidates = rows((1, 0, 0, 0), (0, 1, 0, 0))

    blamed, other = chance_to_start(candidates, rows((0, 0, 0, 0)), failed, [(0,)])

    assert blamed < other


def test_success_clears_a_suspect() -> None:
    failed, candidate = rows((1, 1, 0, 0)), rows((1, 1, 1, 1))

    before = chance_to_start(candidate, rows((0, 0, 1, 1)), failed, [()])[0]
    after = chance_to_start(candidate, rows((0, 0, 1, 1), (1, 1, 1, 0)), failed, [()])[0]

    assert after > before


def test_a_precision_that_failed_the_gate_is_avoided() -> None:
    judged = rows((2, 0, 0, 0), (1, 0, 0, 0))
    passed = np.array([False, True])

    bad, good, new = chance_to_pass(rows((2, 1, 1, 1), (1, 1, 1, 1), (0, 1, 1, 1)), judged, passed, [0])

    assert bad < 0.4 < new < good
