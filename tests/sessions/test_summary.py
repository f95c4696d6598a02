"""Baseline, best and gain of a session, as every view of it has them."""

from __future__ import annotations

from sessions.records import PROOF, Trial
from sessions.summary import summarise_session

THROUGHPUT = {"objective": {"direction": "maximize"}}


def trial(number: int, kind: str, score: float | None, *, feasible: bool | None = True) -> Trial:
    state = "failed" if score is None else "complete"
    return Trial(number, kind, state, {}, start_ns=0, end_ns=1, score=score, feasible=feasible)


def test_the_winner_of_a_proof_comes_before_a_higher_single_score() -> None:
    trials = [trial(0, "baseline", 100), trial(1, "search", 140), trial(2, "search", 130)]

    assert summarise_session(trials, THROUGHPUT).best == trials[1]
    assert summarise_session(trials, {**THROUGHPUT, "verdict": {"winner": 2}}).best == trials[2]


def test_a_repeat_for_a_proof_is_never_the_best() -> None:
    trials = [trial(0, "baseline", 100), trial(1, "search", 120), trial(2, PROOF, 125)]

    told = summarise_session(trials, THROUGHPUT)

    assert told.best == trials[1]
    assert told.gain is not None
    assert round(told.gain, 6) == 0.2


def test_a_baseline_that_was_started_again_is_the_one_that_was_measured() -> None:
    trials = [trial(0, "baseline", None, feasible=None), trial(1, "baseline", 100), trial(2, "search", 150)]

    told = summarise_session(trials, THROUGHPUT)

    assert told.baseline == trials[1]
    assert told.gain == 0.5


def test_what_breaks_an_slo_is_never_the_best() -> None:
    trials = [trial(0, "baseline", 100), trial(1, "search", 500, feasible=False)]

    assert summarise_session(trials, THROUGHPUT).best == trials[0]
