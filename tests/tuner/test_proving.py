"""The rounds of a proof: in turn, paired, resumable, and honest about limits."""

from __future__ import annotations

from sessions.records import PROOF, Params, Trial
from tuner.proving import WINNER, Proof
from tuner.search.objective import Score
from tuner.search.study import BASELINE

DEFAULT: Params = {}
BEST: Params = {"batch": 64}


def trial(number: int, kind: str, params: Params, score: float | None = 1.0, *, feasible: bool = True) -> Trial:
    return Trial(number, kind, "complete", params, start_ns=0, end_ns=1, score=score, feasible=feasible)


def new_proof(*repeated: Trial) -> Proof:
    proof = Proof.of([trial(0, BASELINE, DEFAULT), trial(1, "search", BEST), *repeated], 1)
    assert proof is not None
    return proof


def good(value: float, *, feasible: bool = True) -> Score:
    return Score(value, feasible, 0.0, 0, {})


def run(proof: Proof, rounds: int, baseline: list[float], winner: list[float]) -> list[str]:
    order = []
    values = {BASELINE: iter(baseline), WINNER: iter(winner)}
    while not proof.over(rounds, "maximize"):
        name, _ = proof.next()
        order.append(name)
        proof.tell(name, good(next(values[name])))
    return order


def test_baseline_and_winner_run_in_turn_and_the_order_turns_round_by_round() -> None:
    order = run(new_proof(), 3, [100, 101, 99], [100, 99, 101])

    assert order == [BASELINE, WINNER, WINNER, BASELINE, BASELINE, WINNER]


def test_a_settled_matter_needs_no_further_round() -> None:
    proof = new_proof()

    order = run(proof, 10, [100, 100.1, 100.2], [150, 150.2, 150.1])

    assert len(order) == 4
    assert proof.verdict("maximize")["proven"] is True


def test_an_interrupted_proof_goes_on_where_it_was() -> None:
    proof = new_proof(trial(2, PROOF, DEFAULT, 100), trial(3, PROOF, BEST, 120), trial(4, PROOF, BEST, 121))

    assert proof.rounds == 1
    assert proof.next() == (BASELINE, DEFAULT)


def test_a_baseline_that_breaks_the_limits_is_told_in_words() -> None:
    proof = new_proof()
    for _ in range(2):
        proof.tell(BASELINE, good(500, feasible=False))
        proof.tell(WINNER, good(100))

    verdict = proof.verdict("maximize")

    assert verdict["proven"] is True
    assert verdict["text"] == "the baseline met them in 0 of 2; the winner met every SLO in 2 of 2 rounds"


def test_runs_without_a_score_prove_nothing() -> None:
    proof = new_proof()
    proof.tell(BASELINE, good(100))
    proof.tell(WINNER, None)

    assert proof.verdict("maximize")["proven"] is False


def test_there_is_nothing_to_prove_when_the_baseline_won() -> None:
    assert Proof.of([trial(0, BASELINE, DEFAULT)], 0) is None
    assert Proof.of([trial(0, BASELINE, DEFAULT)], None) is None
