"""Runs a proof: chooses the finalists, repeats them and the baseline in turn, watches the machine, and writes the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sessions.reader import SessionReader
from sessions.records import PROOF
from sessions.summary import baseline_of
from tuner.drift import changes, gpu_states
from tuner.explaining import deciding_level
from tuner.proving import Contestant, Proof, Run
from tuner.search.exchange import BASELINE
from tuner.search.levels import DecidingLevels
from tuner.trial import Order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.records import Params, Trial
    from tuner.bench import Bench
    from tuner.fleet.base import Fleet
    from tuner.search.objective import Objective
    from tuner.search.study import StudySearch

MOST_REPEATS = 2
"""Rounds that are repeated at most because the machine drifted; after that they count, and the session says so."""

NEAR = 0.1
"""A configuration that is worse than the best one by more than this share is no finalist: luck does not explain so much."""

_META = "proof"


async def prove(bench: Bench, fleet: Fleet, search: StudySearch, best: tuple[int, float] | None) -> bool:
    """Run baseline and finalists again in turn until their difference is outside the noise, or the rounds are spent.

    Args:
        bench: What every trial shares.
        fleet: Where they run, one after the other.
        search: Recommends.
        best: Number and score of the best trial, or None: then nothing is proven.

    Returns:
        False when ranges or objective were changed meanwhile: then others may take part, and scores of before mean something
        else. True in all other cases, also when the operator stopped it.
    """
    plan, proof = bench.plan, _proof(bench, search, best)
    if proof is None:
        return True
    rounds, direction = max(bench.plan.search.proof_rounds, 1), bench.objective.direction
    while not proof.over(rounds, direction):
        await bench.control.gate()
        if bench.plan is not plan:
            return False
        if bench.control.stop.is_set():
            return True
        who = proof.next()
        bench.recorder.set_worker("running", f"proof, round {len(proof.rounds) + 1} of {rounds}: {who.name}")
        load = bench.plan.load
        chooser = load.chooser() if who.level is None else DecidingLevels(who.level, load.lighter)
        result = await fleet.run(Order(PROOF, who.params, chooser), bench.gpus_of(who.params), lambda _: None)
        if bench.plan is not plan:
            return False
        if result.state == "interrupted":
            return True
        if result.state == "skipped":
            continue
        score = result.score
        proof.tell(who, Run(result.number, score.value if score else None, score is not None and score.feasible))
        if not proof.current:
            watch_the_machine(bench, proof)
    _conclude(bench, proof)
    return True


def _proof(bench: Bench, search: StudySearch, best: tuple[int, float] | None) -> Proof | None:
    """The proof to run: one that was interrupted, or a new one; None when the best is the baseline or is proven already."""
    with SessionReader(bench.recorder.path) as reader:
        trials, meta, events = reader.trials(), reader.meta(), reader.events()
        taking_part = contestants(bench, reader, trials, search, best)
    if len(taking_part) < 2:
        return None
    earlier = Proof.from_facts(meta.get(_META) or {})
    if earlier is not None and earlier.contestants == taking_part:
        dropped = {number for event in events if event.kind == "drift" for number in event.data.get("repeated", ())}
        earlier.replay(trials, dropped)
        return earlier
    proof = Proof(taking_part, since=len(trials))
    bench.recorder.set_meta({_META: proof.facts()})
    return proof


def contestants(
    bench: Bench,
    reader: SessionReader,
    trials: Sequence[Trial],
    search: StudySearch,
    best: tuple[int, float] | None,
) -> tuple[Contestant, ...]:
    """Baseline and finalists: the best measured, what the search recommends, and then the next best."""
    baseline = baseline_of(trials)
    first = None if best is None else trials[best[0]]
    if baseline is None or first is None or first.params == baseline.params:
        return ()
    ranked = [first, *_ranked(bench.objective, trials, search)]
    chosen: list[Trial] = []
    for trial in ranked:
        if trial.params not in [baseline.params, *(each.params for each in chosen)]:
            chosen.append(trial)
    near = [trial for trial in chosen if _is_near(bench.objective, trial, first)]
    chosen = near[: bench.plan.search.finalists]
    named = [(BASELINE, baseline), *((f"trial {trial.number}", trial) for trial in chosen)]
    return tuple(
        Contestant(name, trial.number, trial.params, level)
        for name, trial in named
        if (level := _level_of(bench, reader, trial)) is not None or trial is baseline
    )


def _is_near(objective: Objective, trial: Trial, best: Trial) -> bool:
    """Whether a trial came near enough to the best one to be worth repeating."""
    assert trial.score is not None
    assert best.score is not None
    return trial is best or objective.gain(trial.score, best.score) >= -NEAR


def _ranked(objective: Objective, trials: Sequence[Trial], search: StudySearch) -> list[Trial]:
    """Trials that may be finalists: the recommended one first, then by score."""
    able = [
        trial
        for trial in trials
        if trial.kind not in (PROOF, BASELINE)
        and trial.feasible
        and trial.score is not None
        and search.covers(trial.params)
    ]
    able.sort(key=lambda trial: trial.score or 0.0, reverse=objective.direction == "maximize")
    recommended = search.best()
    wanted: Params | None = None if recommended is None else recommended.params
    return [trial for trial in able if trial.params == wanted] + able


def _level_of(bench: Bench, reader: SessionReader, trial: Trial) -> float | None:
    """The load at which a trial had its score; None when it had none."""
    level = deciding_level(reader, trial, bench.objective)
    return None if level is None else level.value


def watch_the_machine(bench: Bench, proof: Proof) -> None:
    """Compare each contestant's GPUs with those of its first round; a round on another machine, so to speak, is repeated."""
    if len(proof.rounds) < 2:
        return
    bound = bench.plan.search.drift
    bench.recorder.flush()
    with SessionReader(bench.recorder.path) as reader:
        moved = [
            text
            for one, other in zip(proof.rounds[0], proof.rounds[-1], strict=True)
            for text in changes(gpu_states(reader, one.trial), gpu_states(reader, other.trial), bound)
        ]
    if not moved:
        return
    told = sorted(set(moved))
    numbers = [run.trial for run in proof.rounds[-1]]
    repeat = proof.repeated < MOST_REPEATS
    end = "the round is repeated" if repeat else "the round counts all the same: it was repeated often enough"
    data: dict[str, Any] = {"round": len(proof.rounds), "trials": numbers, "changes": told}
    if repeat:
        data["repeated"] = numbers
        proof.drop_last()
    bench.recorder.event("drift", f"the machine changed ({'; '.join(told)}): {end}", data=data)


def _conclude(bench: Bench, proof: Proof) -> None:
    verdict = proof.verdict(bench.objective.direction)
    with SessionReader(bench.recorder.path) as reader:
        if reader.meta().get("verdict") == verdict:
            return  # told before: a proof that was complete has been asked for again
    bench.recorder.set_meta({"verdict": verdict})
    bench.recorder.event("verdict", str(verdict["text"]), trial=int(verdict["winner"]), data=verdict)
