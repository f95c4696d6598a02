"""The tuning job: ask the search for a configuration, run it as a trial, tell what it reached, until the budget is spent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sessions.reader import SessionReader
from sessions.records import FINISHED_STATES, PROOF
from tuner.proving import Proof
from tuner.search.exchange import BASELINE, Result
from tuner.search.known import checkpoint_of, simulated_hardware, workload_shape
from tuner.search.search import Search
from tuner.search.space import build_space
from tuner.search.study import Outcome, StudySearch
from tuner.trial import run_trial

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engines.base import Engine, Value
    from sessions.records import Params, Trial
    from tuner.plan import Plan
    from tuner.search.objective import Objective
    from tuner.search.problem import Hardware
    from tuner.search.search import Proposal
    from tuner.search.space import Space
    from tuner.trial import Bench, TrialResult


STOPPED = "stopped by the operator"


def space_of(plan: Plan, engine: Engine) -> Space:
    """The search space of a plan.

    Raises:
        BadPlan: If the plan and the engine do not fit together.
    """
    return build_space(engine.knobs(plan.engine.version), plan.knobs, plan.baseline)


def open_search(
    path: Path, plan: Plan, engine: Engine, objective: Objective, hardware: Hardware | None = None
) -> StudySearch:
    """The search of a session, begun or gone on with: what earlier workers finished is known to it.

    Args:
        path: The session.
        plan: What is to be tuned.
        engine: The server's family.
        objective: What counts as better.
        hardware: The GPUs; None: those of the simulated engine when the plan's arguments name them, else nothing is assumed.

    Raises:
        BadPlan: If the plan and the engine do not fit together.
    """
    starting_points = _starting_points(plan, engine, space_of(plan, engine))
    search = StudySearch(
        path,
        lambda storage: Search(
            engine.knobs(plan.engine.version),
            objective,
            hardware=hardware or simulated_hardware(plan.engine.arguments),
            model=checkpoint_of(plan.engine.model),
            workload=workload_shape(plan),
            wanted=plan.knobs,
            baseline=plan.baseline,
            conflicts=engine.conflicts,
            starting_points=starting_points,
            sampler=plan.search.sampler,
            seed=plan.search.seed,
            storage=storage,
        ),
    )
    with SessionReader(path) as reader:
        search.recover({trial.number: _outcome(trial, objective) for trial in reader.trials() if _over(trial)})
    return search


def _starting_points(plan: Plan, engine: Engine, space: Space) -> list[Params]:
    """The engine's advice with the most GPUs the plan allows, then with the baseline's."""
    advice = engine.starting_points(plan.load_hint())
    largest = space.largest()
    return [{**point, **largest} for point in advice] + ([dict(advice[0])] if advice and largest else [])


class TuneJob:
    """Runs trials until the budget is spent, nothing is left to try, or the operator stops it.

    Attributes:
        best: Number and score of the best trial so far that meets every SLO, or None.
    """

    def __init__(self, bench: Bench, search: StudySearch, finished: tuple[Trial, ...], spent_s: float) -> None:
        """Prepare.

        Args:
            bench: What every trial shares.
            search: Where configurations come from.
            finished: Trials of earlier workers of this session.
            spent_s: Seconds those workers have used of the budget.
        """
        self._bench = bench
        self._search = search
        self._begun_s = time.monotonic() - spent_s
        self._done = sum(_over(trial) and trial.kind != PROOF for trial in finished)
        self.best: tuple[int, float] | None = None
        for trial in finished:
            if trial.score is not None and trial.feasible and trial.kind != PROOF:
                self._consider(trial.number, trial.score, announce=False)

    async def run(self) -> str:
        """Do the work.

        Returns:
            Why it ended, in words.
        """
        search_plan, control = self._bench.plan.search, self._bench.control
        reason = await self._search_on()
        if not control.stop.is_set() and search_plan.proof_rounds:
            await self._prove()
        return STOPPED if control.stop.is_set() else reason

    async def _search_on(self) -> str:
        """Run trials until the budget is spent; returns why no more are run, in words."""
        search_plan, control = self._bench.plan.search, self._bench.control
        while True:
            await control.gate()
            if control.stop.is_set():
                return STOPPED
            if self._done >= search_plan.trials:
                return f"all {search_plan.trials} trials are done"
            if search_plan.time_s is not None and time.monotonic() - self._begun_s >= search_plan.time_s:
                return f"the time budget of {search_plan.time_s:g} s is spent"
            proposal = self._search.ask()
            if proposal is None:
                return "nothing new is left to try"
            await self._run(proposal, search_plan.trials)

    async def _prove(self) -> None:
        """Run baseline and winner again in turn until their difference is outside the noise, or the rounds are spent."""
        with SessionReader(self._bench.recorder.path) as reader:
            trials = reader.trials()
        proof = Proof.of(trials, self._winner())
        if proof is None:
            return
        rounds, control = self._bench.plan.search.proof_rounds, self._bench.control
        while not proof.over(rounds, self._bench.objective.direction):
            await control.gate()
            if control.stop.is_set():
                return
            name, params = proof.next()
            self._bench.recorder.set_worker("running", f"proof, round {proof.rounds + 1} of {rounds}: {name}")
            result = await run_trial(self._bench, PROOF, params, lambda _: None)
            if result.state == "interrupted":
                return
            proof.tell(name, result.score)
        told = proof.verdict(self._bench.objective.direction)
        self._bench.recorder.set_meta({"verdict": told})
        self._bench.recorder.event("verdict", str(told["text"]), trial=proof.finalist.number, data=told)

    def _winner(self) -> int | None:
        """The trial whose configuration the search recommends: what is best by all measurements, and not the luckiest of them."""
        recommended = self._search.best_trial()
        return recommended if recommended is not None or self.best is None else self.best[0]

    def enqueue(self, params: Mapping[str, Value]) -> str | None:
        """Put a configuration next; returns why it is refused, or None."""
        return self._search.enqueue(params)

    def close(self) -> None:
        """Let go of the study."""
        self._search.close()

    async def _run(self, proposal: Proposal, trials: int) -> None:
        self._bench.recorder.set_worker("running", f"trial {self._done + 1} of {trials}: {proposal.kind}")
        result = await run_trial(
            self._bench,
            proposal.kind,
            proposal.params,
            lambda number: self._search.link(proposal, number),
            guess=proposal.expected_level,
            incumbent=None if self.best is None or proposal.kind == BASELINE else self.best[1],
        )
        if result.state == "interrupted":
            return  # stays open in the study: a resumed search runs it again
        self._done += 1
        self._tell(proposal, result)

    def _tell(self, proposal: Proposal, result: TrialResult) -> None:
        if result.score is not None:
            self._search.tell(proposal, Result(result.score.value, result.score.violation))
            if result.score.feasible and result.score.value is not None:
                self._consider(result.number, result.score.value, announce=proposal.kind != BASELINE)
            return
        failure = result.failure
        self._search.tell_failure(
            proposal,
            failure.accuses if failure else (),
            failure.text if failure else result.state,
            infeasible=result.state == "infeasible",
        )

    def _consider(self, number: int, value: float, *, announce: bool) -> None:
        if self.best is not None and not self._bench.objective.better(value, self.best[1]):
            return
        self.best = (number, value)
        if announce:
            text = f"trial {number} is the best so far: {value:.4g} {self._bench.objective.metric}"
            self._bench.recorder.event("best", text, trial=number, data={"score": value})


def _over(trial: Trial) -> bool:
    return trial.state in FINISHED_STATES


def _outcome(trial: Trial, objective: Objective) -> Outcome:
    failure = trial.failure
    return Outcome(
        params=trial.params,
        value=trial.score,
        violation=objective.violation(trial.result) if trial.score is not None else 1.0,
        infeasible=trial.state == "infeasible",
        accused=failure.accuses if failure else (),
        reason=failure.text if failure else "",
    )
