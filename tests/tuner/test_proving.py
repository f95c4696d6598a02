"""The rounds of a proof: in turn, paired, resumable, and honest about limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from sessions.records import PROOF, Params, Trial
from tuner.proving import Contestant, Proof, Run

BASELINE = Contestant("baseline", 0, {}, 8)
ONE = Contestant("trial 4", 4, {"batch": 64}, 32)
OTHER = Contestant("trial 7", 7, {"batch": 128}, 32)


def proof(*finalists: Contestant) -> Proof:
    return Proof((BASELINE, *(finalists or (ONE,))), since=10)


def run(proof: Proof, rounds: int, scores: Mapping[str, Sequence[float]]) -> list[str]:
    order = []
    values = {name: iter(each) for name, each in scores.items()}
    while not proof.over(rounds, "maximize"):
        who = proof.next()
        order.append(who.name)
        proof.tell(who, Run(10 + len(order), next(values[who.name]), feasible=True))
    return order


def trial(number: int, params: Params, score: float) -> Trial:
    return Trial(number, PROOF, "complete", params, start_ns=0, end_ns=1, score=score, feasible=True)


def test_everyone_runs_once_a_round_and_the_order_turns() -> None:
    order = run(proof(), 3, {"baseline": [100, 101, 99], "trial 4": [100, 99, 101]})

    assert order == ["baseline", "trial 4", "trial 4", "baseline", "baseline", "trial 4"]


def test_a_matter_settled_beyond_doubt_needs_no_further_round() -> None:
    proven = proof()

    order = run(proven, 10, {"baseline": [100, 100.1, 100.2], "trial 4": [150, 150.2, 150.1]})

    assert len(order) == 4
    assert proven.verdict("maximize")["proven"] is True


def test_the_better_of_two_finalists_wins_and_both_are_told() -> None:
    proven = proof(ONE, OTHER)
    scores = {"baseline": [100, 101, 99, 100], "trial 4": [120, 121, 118, 120], "trial 7": [140, 141, 139, 142]}

    run(proven, 4, scores)
    verdict = proven.verdict("maximize")

    assert verdict["winner"] == 7
    assert verdict["gain"] == pytest.approx(0.405, abs=0.01)
    assert [each["trial"] for each in verdict["finalists"]] == [4, 7]
    assert "Bonferroni over 2 finalists" in verdict["method"]
    assert "trial 4: proven better" in verdict["text"]


def test_an_interrupted_proof_goes_on_where_it_was() -> None:
    resumed = Proof.from_facts(proof().facts())
    assert resumed is not None

    resumed.replay(
        [trial(3, {}, 1), trial(10, {}, 100), trial(11, {"batch": 64}, 120), trial(12, {"batch": 64}, 121)], ()
    )

    assert len(resumed.rounds) == 1, "trials of an earlier proof do not count"
    assert resumed.next() == BASELINE


def test_a_repeated_round_does_not_count_after_a_resume_either() -> None:
    resumed = proof()

    resumed.replay([trial(10, {}, 100), trial(11, {"batch": 64}, 120), trial(12, {}, 90)], {10, 11})

    assert resumed.rounds == []
    assert resumed.repeated == 1
    assert resumed.next() == ONE


def test_a_baseline_that_breaks_the_limits_is_told_in_words() -> None:
    broken = proof()
    for number in (10, 12):
        broken.tell(BASELINE, Run(number, 500, feasible=False))
        broken.tell(ONE, Run(number + 1, 100, feasible=True))

    verdict = broken.verdict("maximize")

    assert verdict["proven"] is True
    assert verdict["text"] == "the baseline met every SLO in 0 of 2 rounds, trial 4 in 2"


def test_a_finalist_that_breaks_the_limits_again_does_not_win() -> None:
    proven = proof(ONE, OTHER)
    for number in (10, 20):
        proven.tell(BASELINE, Run(number, 100, feasible=True))
        proven.tell(ONE, Run(number + 1, 200, feasible=number == 10))
        proven.tell(OTHER, Run(number + 2, 120, feasible=True))

    assert proven.verdict("maximize")["winner"] == 7


def test_runs_without_a_score_prove_nothing() -> None:
    failed = proof()
    failed.tell(BASELINE, Run(10, 100, feasible=True))
    failed.tell(ONE, Run(11, None, feasible=False))

    assert failed.verdict("maximize")["proven"] is False


def test_a_run_that_failed_is_not_called_a_broken_limit_alone() -> None:
    proven = proof(Contestant("trial 4", 4, {"a": 1}, 8))
    for number, score in enumerate((1.0, 2.0, 1.0, None)):
        proven.tell(proven.next(), Run(number, score, feasible=score is not None))

    text = proven.verdict("maximize")["text"]

    assert text.endswith("gave no result in trial 3")
