"""The tuning job: ask the search for a configuration, run it as a trial, tell what it reached, until the budget is spent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from sessions.reader import SessionReader
from sessions.records import PROOF, REFERENCE
from tuner.budget import Budget, CountedFleet
from tuner.errors import BadPlan
from tuner.explaining import deciding_level, explain, queue_facts
from tuner.fleet.neighbours import bear_each_other
from tuner.fleet.storage import StorageGone, is_outage, patiently, signs_of_life
from tuner.proof_rounds import prove
from tuner.quality.gate import QualityGate
from tuner.rescoring import QUALITY, SCORED_FOR, adopt_plan, past_trials, purpose_of, rescore_session, result_of
from tuner.search.exchange import BASELINE, ENQUEUED, Result
from tuner.search.levels import ListedLevels
from tuner.searching import knob_facts, open_search
from tuner.side_by_side import side_by_side
from tuner.steering import domain_words, with_objective, with_range
from tuner.trial import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sessions.records import Params
    from tuner.bench import Bench
    from tuner.fleet.base import Fleet
    from tuner.fleet.storage import SharedStorage
    from tuner.plan import Plan
    from tuner.search.exchange import Proposal
    from tuner.search.levels import LevelChooser
    from tuner.search.problem import Hardware
    from tuner.search.study import StudySearch
    from tuner.trial import TrialResult

    Answer = tuple[str, str]

T = TypeVar("T")

STOPPED = "stopped by the operator"


class TuneJob:
    """Runs trials until the budget is spent, nothing is left to try, or the operator stops it.

    Attributes:
        best: Number and score of the best trial so far that meets every SLO, or None.
    """

    def __init__(
        self, bench: Bench, fleet: Fleet, hardware: Hardware | None = None, storage: SharedStorage | None = None
    ) -> None:
        """Open the search of the session, with everything that earlier workers finished.

        Args:
            bench: What every trial shares.
            fleet: Where trials run.
            hardware: The GPUs, as far as they are known.
            storage: A database that holds the study; None: the session file does.

        Raises:
            BadPlan: If the plan and the engine do not fit together.
        """
        self._bench = bench
        self._hardware = hardware
        self._storage = storage
        self._under_way: dict[int, Proposal] = {}
        self._asking = 0
        self._one_ended = asyncio.Event()
        self.best: tuple[int, float] | None = None
        self._wants_proof = False
        self._proves = False
        self._gate = QualityGate(bench)
        self._recording = asyncio.Lock()
        bench.on_gate = self._gate.take
        with SessionReader(bench.recorder.path) as reader:
            meta, trials = reader.meta(), reader.trials()
        if meta.get(SCORED_FOR, purpose_of(bench.plan)) != purpose_of(bench.plan):
            rescore_session(bench.recorder, bench.plan)
        self._search = self._open_search()
        self._budget = Budget.of(bench.plan, bench.gpus_of, trials)
        self._fleet = CountedFleet(fleet, self._budget)
        self._find_best(announce=False)

    async def run(self) -> str:
        """Do the work.

        Returns:
            Why it ended, in words.

        Raises:
            BadStorage: If another driver has taken the study.
            StorageGone: If its database did not come back in time.
        """
        control = self._bench.control
        async with signs_of_life(self._storage, self._rows_under_way, control.end):
            reason = await self._search_on()
            while self._bench.plan.search.proof_rounds and (not await self._prove() or self._has_more_to_run()):
                reason = await self._search_on()
        return STOPPED if control.stop.is_set() else reason

    def obey(self, kind: str, args: Mapping[str, Any]) -> Answer | None:
        """Do what an operator asks of a search; returns `done` or `refused` and a reply, None for a command of another kind."""
        commands: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
            "enqueue": self._enqueue,
            "dequeue": self._dequeue,
            "range": self._change_range,
            "objective": self._change_objective,
            "prove": self._prove_now,
        }
        if kind not in commands:
            return None
        try:
            return "done", commands[kind](args)
        except BadPlan as error:
            return "refused", str(error)
        except (StorageInternalError, SQLAlchemyError) as error:
            if not self._is_outage(error):
                raise
            return "refused", "the database of the study does not answer now: ask again when it is back"

    def close(self) -> None:
        """Let go of the study."""
        self._search.close()

    async def _search_on(self) -> str:
        """Run trials until the budget is spent; returns why no more are run, in words."""
        lanes = self._fleet.lanes
        if lanes > 1 and not self._bench.plan.fleet.cluster:
            # The baseline runs alone: every gain is measured against it, and neighbours on one host may disturb each other.
            if reason := await self._keep_running(trials=1):
                return reason
            if self.best is not None and not await bear_each_other(self._bench, self._fleet, self.best[0]):
                lanes = 1
        while True:
            reasons = await side_by_side(self._keep_running() for _ in range(lanes))
            if not self._wants_proof:
                return reasons[0]
            self._wants_proof = False
            while not await self._prove():
                pass

    async def _prove(self) -> bool:
        """Prove the best; False when ranges or objective were changed meanwhile, and another may be the best now."""
        bench, self._proves = self._bench, True
        try:
            proven = bench.control.stop.is_set() or await prove(bench, self._fleet, self._search, self.best)
        finally:
            self._proves = False
        if not proven:
            rescore_session(bench.recorder, bench.plan)  # what ran during the change has levels of before it
        if not bench.control.stop.is_set():
            await self._patiently(self._explain)
        return proven

    def _has_more_to_run(self) -> bool:
        """Whether something was enqueued while the proof ran that the budget leaves room for."""
        return not self._bench.control.stop.is_set() and self._budget.over() is None and bool(self._search.queue())

    async def _keep_running(self, trials: int = 0) -> str:
        """Run one trial after the other, or so many; returns why no more are run, or an empty text when more may be."""
        control, begun = self._bench.control, 0
        while not self._wants_proof and (not trials or begun < trials):
            await control.gate()
            if control.stop.is_set():
                return STOPPED
            if (over := self._budget.over(len(self._under_way) + self._asking)) is not None:
                return over
            proposal = await self._ask()
            if proposal is None and not self._under_way:
                return "nothing new is left to try"
            if proposal is None:
                await self._one_ended.wait()  # what is learnt from it may open up something new
                continue
            begun += 1
            self._under_way[proposal.id] = proposal
            if proposal.kind == ENQUEUED:  # it waits no longer
                await self._patiently(lambda: self._bench.recorder.set_meta(queue_facts(self._search)))
            try:
                await self._run(proposal)
            finally:
                self._under_way.pop(proposal.id, None)
                self._one_ended.set()
                self._one_ended = asyncio.Event()
        return ""

    async def _ask(self) -> Proposal | None:
        """Ask the search; while its database is waited for, the trial to come counts against the budget as if it ran."""
        self._asking += 1
        try:
            return await self._patiently(lambda: self._search.ask())
        finally:
            self._asking -= 1

    def _open_search(self) -> StudySearch:
        bench = self._bench
        shared = None if self._storage is None else (self._storage.optuna, self._storage.study)
        return open_search(bench.recorder.path, bench.plan, bench.engine, self._hardware, shared)

    def _rows_under_way(self) -> tuple[int, ...]:
        return tuple(self._search.row_of(proposal) for proposal in self._under_way.values())

    async def _patiently(self, work: Callable[[], T]) -> T | None:
        """Do what needs the study; an outage of its database is waited for, unless the work is to end: a resume makes up for it.

        Raises:
            StorageGone: If it did not come back in time.
        """
        if self._storage is None:
            return work()
        bench, stop = self._bench, self._bench.control.stop
        try:
            return await patiently(work, lambda text: bench.recorder.event("warning", text), ended=stop)
        except StorageGone:
            if not stop.is_set():
                raise
            return None

    async def _run(self, proposal: Proposal) -> None:
        """Run a proposal; a start that failed for no reason of its configuration is tried again."""
        search = self._search
        if self._gate.needs_reference(proposal.params):
            await self._record_reference(proposal.params)
            if self._bench.control.stop.is_set():
                return
        result = await self._try(search, proposal)
        if result.state == "interrupted":
            return  # stays open in the study: a resumed search runs it again
        self._budget.done += 1
        await self._patiently(lambda: self._link(search, proposal, result.number))
        await self._patiently(lambda: self._tell(search, proposal, result))
        self._find_best(announce=proposal.kind != BASELINE)
        await self._patiently(self._explain)

    async def _record_reference(self, needed_by: Params) -> None:
        """Start the unaltered model for its answers alone: no baseline has recorded them.

        Once for all trials that wait for them.
        """
        async with self._recording:
            if self._gate.needs_reference(needed_by):
                await self._run_reference()

    async def _run_reference(self) -> None:
        """Run it until it has answered; when it cannot be served, nothing is checked in this run of the search."""
        bench, params = self._bench, self._gate.reference_params()
        order = Order(REFERENCE, params, ListedLevels(()), gate=self._gate.recording())
        attempt = 0
        while True:
            bench.recorder.set_worker("running", "the unaltered model's answers, for the quality gate")
            result = await self._fleet.run(order, bench.gpus_of(params), lambda _: None)
            attempt += 1
            if result.state != "failed" or attempt > bench.plan.search.retries:
                break
            await bench.control.gate()
        if result.state == "interrupted" or result.gate is not None:
            return
        why = "it was skipped" if result.failure is None else result.failure.text
        self._gate.give_up(result.number, f"the unaltered model cannot be served: {why}")

    async def _try(self, search: StudySearch, proposal: Proposal) -> TrialResult:
        bench, attempt = self._bench, 0
        while True:
            again = f", try {attempt + 1}" if attempt else ""
            beside = f", {len(self._under_way)} side by side" if len(self._under_way) > 1 else ""
            text = f"trial {self._budget.done + 1} of {bench.plan.search.trials}: {proposal.kind}{again}{beside}"
            bench.recorder.set_worker("running", text)
            last = attempt >= bench.plan.search.retries
            order = self._order(proposal, last_try=last)
            gpus = proposal.gpus or bench.gpus_of(proposal.params)
            result = await self._fleet.run(order, gpus, lambda number: self._link_if_possible(search, proposal, number))
            attempt += 1
            if last or not _may_be_chance(proposal, result):
                return result
            await bench.control.gate()
            if bench.control.stop.is_set():
                return result

    def _link_if_possible(self, search: StudySearch, proposal: Proposal, number: int) -> None:
        """The same while the database of the study may be gone: it is done once more when the trial is over."""
        try:
            self._link(search, proposal, number)
        except (StorageInternalError, SQLAlchemyError) as error:
            if not self._is_outage(error):
                raise

    def _is_outage(self, error: Exception) -> bool:
        """Whether the study's database is gone for now; a session file never is."""
        return self._storage is not None and is_outage(error)

    def _link(self, search: StudySearch, proposal: Proposal, number: int) -> None:
        """Remember which trial runs a proposal; a search made anew meanwhile does not know the proposal."""
        if search is self._search:
            search.link(proposal, number)

    def _order(self, proposal: Proposal, *, last_try: bool) -> Order:
        incumbent = None if self.best is None or proposal.kind == BASELINE else self.best[1]
        chooser = self._chooser(proposal)
        gate = self._gate.gate_for(proposal.kind, proposal.params)
        return Order(proposal.kind, proposal.params, chooser, incumbent, last_try, gate)

    def _chooser(self, proposal: Proposal) -> LevelChooser:
        """What chooses the levels: with `listed` all of them for the baseline, and then from the best trial's level on."""
        load = self._bench.plan.load
        if load.find != "listed":
            return load.chooser(proposal.expected_level)
        if self.best is None or proposal.kind == BASELINE or len(self._bench.objectives) > 1:
            return ListedLevels(tuple(sorted(set(load.levels))))
        with SessionReader(self._bench.recorder.path) as reader:
            level = deciding_level(reader, reader.trials()[self.best[0]], self._bench.objective)
        return load.chooser(proposal.expected_level if level is None else level.value)

    def _tell(self, search: StudySearch, proposal: Proposal, result: TrialResult) -> None:
        """Tell the search; one that was made anew meanwhile, for another objective, takes the trial as the session has it."""
        if search is not self._search:
            self._adopt(result.number)
            return
        if result.score is not None:
            passed = self._gate.passed(result.number)
            search.tell(proposal, result_of(self._bench.objectives, result.levels, passed))
            return
        failure = result.failure
        reason, accused = (failure.text, failure.accuses) if failure else (result.state, ())
        passed = False if failure is not None and failure.kind == QUALITY else None
        search.tell(proposal, Result(None, 1.0, passed, reason, accused, result.state == "infeasible"))

    def _adopt(self, number: int) -> None:
        rescore_session(self._bench.recorder, self._bench.plan)
        with SessionReader(self._bench.recorder.path) as reader:
            past = [each for each in past_trials(reader, self._bench.objectives) if each.number == number]
        for each in past:
            self._search.adopt(each)

    def _find_best(self, *, announce: bool) -> None:
        """Look over the session for the best trial that meets every SLO and lies within the ranges."""
        objective = self._bench.objective
        before, self.best = self.best, None
        with SessionReader(self._bench.recorder.path) as reader:
            trials = reader.trials()
        for trial in trials:
            if trial.score is None or not trial.feasible or trial.kind == PROOF:
                continue
            if trial.kind != BASELINE and not self._search.covers(trial.params):
                continue
            if self.best is None or objective.better(trial.score, self.best[1]):
                self.best = (trial.number, trial.score)
        if announce and self.best is not None and self.best != before:
            number, value = self.best
            text = f"trial {number} is the best so far: {objective.shown(value)}"
            self._bench.recorder.event("best", text, trial=number, data={"score": value})

    def _explain(self) -> None:
        bench = self._bench
        explain(bench.recorder, bench.plan, bench.engine, self._search, self._budget)

    def _enqueue(self, args: Mapping[str, Any]) -> str:
        params = args.get("params")
        if not isinstance(params, dict):
            raise BadPlan("a configuration is needed: knob names and values")
        if (reason := self._search.enqueue(params)) is not None:
            raise BadPlan(reason)
        self._explain()
        if self._budget.over(len(self._under_way) + self._asking) is not None:
            return (
                "queued, but the budget leaves no trial for it: it runs when the session is resumed with a larger one"
            )
        return "queued"

    def _dequeue(self, args: Mapping[str, Any]) -> str:
        place = args.get("place")
        if isinstance(place, bool) or not isinstance(place, int):
            raise BadPlan("a place in the queue is needed, counted from 0")
        if (reason := self._search.dequeue(place)) is not None:
            raise BadPlan(reason)
        self._explain()
        return f"place {place} is taken out of the queue"

    def _change_range(self, args: Mapping[str, Any]) -> str:
        plan = with_range(self._bench.plan, self._bench.engine, args)
        dropped = self._change(plan)
        words = domain_words(plan.knobs[str(args["knob"])])
        return f"{args['knob']}: {words}; the search goes on from what was measured{dropped}"

    def _change_objective(self, args: Mapping[str, Any]) -> str:
        dropped = self._change(with_objective(self._bench.plan, args))
        labels = "; ".join(each.label for each in self._bench.objectives)
        return f"{labels}: all trials are scored anew{dropped}"

    def _prove_now(self, _: Mapping[str, Any]) -> str:
        if self.best is None:
            raise BadPlan("nothing to prove yet: no trial meets every SLO")
        if self._proves:
            raise BadPlan("a proof is running now")
        self._wants_proof = True
        return "the proof begins after the running trial"

    def _change(self, plan: Plan) -> str:
        """Go on under another plan: everything measured is scored under it, and the search is made anew from that.

        Returns:
            What of the queue does not fit any more, as the end of a sentence; mostly empty.
        """
        bench, queued = self._bench, self._search.queue()
        if purpose_of(plan) == purpose_of(bench.plan):
            return ""
        self._search.close()
        adopt_plan(bench.recorder, bench.plan, plan, knob_facts(plan, bench.engine))
        bench.plan, bench.objectives, self._budget.plan = plan, plan.to_objectives(), plan
        rescore_session(bench.recorder, plan)
        self._search = self._open_search()
        refused = self._search.replace_queue(each.params for each in queued)
        self._find_best(announce=False)
        self._explain()
        return f"; {len(refused)} of {len(queued)} queued configurations are dropped: {refused[0]}" if refused else ""


def _may_be_chance(proposal: Proposal, result: TrialResult) -> bool:
    """Whether a start may go better the next time: the first one also finds empty caches, and compiles longer than any other."""
    first = proposal.kind == BASELINE and result.failure is not None and result.failure.kind == "timeout"
    return result.state == "failed" or first
