"""The search: asked for a configuration, told what it reached. No files, no processes, no clock.

`trtune.Search` is this class. The worker uses it through `tuner.search.study.StudySearch`, which keeps the study in the session.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, Literal

import optuna
from optuna.trial import TrialState

from tuner.search.early import early_points
from tuner.search.encoding import build_grid
from tuner.search.exchange import (
    BASELINE,
    ENQUEUED,
    SEARCH,
    FrontPoint,
    Known,
    Proposal,
    Recommendation,
    Result,
)
from tuner.search.knowledge import Knowledge
from tuner.search.memory import FailureMemory
from tuner.search.objective import Objective
from tuner.search.older import observe_older
from tuner.search.recommending import best_of_front, front_of, recommended
from tuner.search.record import (
    KIND,
    OUTSIDE,
    PARAMS,
    VIOLATION,
    attributes_of,
    constraint_of,
    observations_of,
    values_of,
)
from tuner.search.sampler import ROOFLINE, RooflineSampler, optuna_sampler
from tuner.search.space import build_space, own_domain
from tuner.search.strategy import Strategy
from tuner.search.threads import one_thread
from tuner.search.tried import Tried

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from engines.knob import Knob, Value
    from engines.models import Checkpoint, ModelShape
    from tuner.plan import KnobRange, KnobValue
    from tuner.search.history import Observation
    from tuner.search.problem import Hardware, Meaning, Prior, WorkloadShape
    from tuner.search.space import Space

__all__ = ["BASELINE", "ENQUEUED", "SEARCH", "FrontPoint", "Known", "Proposal", "Recommendation", "Result", "Search"]

STUDY_NAME: Final = "trtune"
MAX_REJECTIONS: Final = 5
"""Proposals thrown away in a row before one is drawn at random instead: each of them is a row in the study."""

MAX_DRAWS: Final = 1000
"""Random draws in vain after which the space counts as exhausted."""


class Search:
    """Proposes configurations, the baseline first, and learns from what became of them."""

    def __init__(
        self,
        knobs: Sequence[Knob],
        objective: Objective | Sequence[Objective],
        *,
        hardware: Hardware | None = None,
        model: Checkpoint | ModelShape | None = None,
        workload: WorkloadShape | None = None,
        wanted: Mapping[str, KnobRange | tuple[KnobValue, ...] | KnobValue] | None = None,
        baseline: Mapping[str, KnobValue] | None = None,
        conflicts: Callable[[Mapping[str, Value]], str | None] = lambda _params: None,
        starting_points: Sequence[Mapping[str, Value]] = (),
        advice: Sequence[Mapping[str, Value]] = (),
        meanings: Mapping[str, Meaning] | None = None,
        prior: Prior | Literal["roofline", "none"] = "roofline",
        sampler: str = ROOFLINE,
        known: Sequence[Known] = (),
        seed: int = 0,
        storage: BaseStorage | None = None,
        study_name: str = STUDY_NAME,
    ) -> None:
        """Begin a search, or go on with the one in the storage.

        What is left out is not assumed: without hardware or model nothing is rejected beforehand; without either of them or the
        workload there is no prior, and the search learns from its measurements alone.

        Args:
            knobs: All knobs, in any names; names that servers use are understood (`problem.Meaning`).
            objective: What counts as better; with several objectives the front is looked for (`front`).
            hardware: The GPUs.
            model: Shape of the model, or checkpoint with its precision.
            workload: Lengths and levels of the load.
            wanted: Range, choices or fixed value by knob; empty: every knob marked as searched, or every one if none is marked.
            baseline: Values of the first trial that differ from the defaults.
            conflicts: Why a configuration cannot work, or None; such a one is never proposed.
            starting_points: Configurations to try right after the baseline, all of them.
            advice: Configurations that are known to do well in general, best first: hints, of which the search tries what it needs.
            meanings: What knobs with unusual names stand for.
            prior: `roofline` estimates from hardware, model and workload where all three are known; `none` does without;
                or an estimate of the caller's own.
            sampler: `roofline`, or one of Optuna's: `tpe`, `gp`, `nsga2`, `random`.
            known: Results of older sessions on the same model and GPU. They are hints: each session may be off as a whole, none of
                them is recommended unmeasured, and what failed then is only less likely to work now.
            seed: Makes the proposals repeatable.
            storage: Where the Optuna study lives; None: in memory.
            study_name: Name of the study there: another objective or other ranges need another study.

        Raises:
            BadPlan: If a wish and the knobs do not fit together, or there is no such sampler.
            NothingToSearch: If no knob is left to change.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if not any(knob.searched for knob in knobs) and not wanted:
            wanted = {knob.name: own_domain(knob) for knob in knobs}
        self.space: Space = build_space(knobs, wanted or {}, baseline or {})
        self.objectives: tuple[Objective, ...] = (objective,) if isinstance(objective, Objective) else tuple(objective)
        self._names = {*(knob.name for knob in knobs), *self.space.baseline}
        self._conflicts = conflicts
        self._levels = workload.levels if workload else ()
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        coarse = frozenset(knob.name for knob in knobs if knob.coarse)
        self._memory = FailureMemory(unordered=coarse | {knob.name for knob in knobs if knob.both_ways})
        self._knowledge = Knowledge(
            {knob.name: knob.default for knob in knobs} | self.space.fixed,
            self.objectives,
            hardware=hardware,
            model=model,
            workload=workload,
            meanings=meanings,
            prior=prior,
        )
        self._known = observe_older(known, self.space, knobs)
        self._strategy = self._make_strategy(seed, frozenset(knob.name for knob in knobs if knob.cost == "build"))
        self.study = self._open_study(storage, study_name, sampler, seed)
        self._tried = Tried(self.study, self.space)
        if not self.study.get_trials(deepcopy=False):
            self._enqueue(self.space.searched_part(self.space.baseline) or {}, BASELINE)
        self._early = early_points(self._strategy, self.space, self._known, starting_points, advice, self.rejection)

    @property
    def objective(self) -> Objective:
        """What counts as better; the first of several."""
        return self.objectives[0]

    def ask(self) -> Proposal | None:
        """The next configuration to try; None when nothing new is left.

        A proposal that cannot work, that asks for as much as one that failed, or that was tried before is thrown away. It may be
        asked again before the last one was told: what is running is not proposed again, nor is what lies close to it.
        """
        self._remember_failures()
        for attempt in range(MAX_REJECTIONS + 1):
            if attempt == MAX_REJECTIONS and not self._enqueue_new():
                return None
            self._queue_early_point()
            trial = self.study.ask(dict(self.space.distributions))
            proposal = self._proposal(trial.number, trial.user_attrs, trial.params)
            reason = self._why_not(proposal)
            if reason is None:
                trial.set_user_attr(PARAMS, proposal.params)
                return proposal
            trial.set_user_attr("rejected", reason)
            self.study.tell(trial, state=TrialState.FAIL)
        return None

    def tell(self, proposal: Proposal, result: Result) -> None:
        """Tell what became of a proposal.

        A result without a value whose configuration is not to blame teaches nothing; the configuration may come again.
        """
        if result.value is None and not result.infeasible:
            self.study.tell(proposal.id, state=TrialState.FAIL)
            return
        self._check(result)
        trial = self.trial(proposal.id)
        for name, told in attributes_of(result).items():
            trial.set_user_attr(name, told)
        if proposal.kind == BASELINE and self.space.searched_part(proposal.params) is None:
            # The baseline lies outside the ranges: the sampler must not take its value for that of a point inside.
            if result.value is not None and result.violation == 0:
                trial.set_user_attr(OUTSIDE, result.value)
            self.study.tell(proposal.id, state=TrialState.FAIL)
            return
        if VIOLATION not in trial.constraints:
            trial.set_constraint(VIOLATION, constraint_of(result))
        self.study.tell(proposal.id, values_of(result, self.objectives, self.study))

    def learn(
        self,
        params: Mapping[str, Value],
        result: Result,
        kind: str = SEARCH,
        attributes: Mapping[str, Any] | None = None,
    ) -> int | None:
        """Take in a trial of this session that was not asked for here: measured before the objective or the ranges were changed.

        Args:
            params: Its whole configuration.
            result: What became of it, under the objective of this search.
            kind: `baseline`, `search` or `enqueued`; a baseline is then not proposed any more.
            attributes: Further attributes of its trial in the study.

        Returns:
            Its number in the study; None when it lies outside the ranges, or when nothing can be learnt from it.
        """
        if result.value is None and not result.infeasible:
            return None
        self._check(result)
        searched = self.space.searched_part(params) if self.space.covers(params) else None
        outside = searched is None
        if outside and kind != BASELINE:
            return None
        told = {
            KIND: kind,
            PARAMS: self.space.complete(searched or params),
            **attributes_of(result),
            **(attributes or {}),
        }
        if outside and result.value is not None and result.violation == 0:
            told[OUTSIDE] = result.value
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.FAIL if outside else TrialState.COMPLETE,
                values=None if outside else values_of(result, self.objectives, self.study),
                params=searched or {},
                distributions={} if searched is None else dict(self.space.distributions),
                user_attrs=told,
                constraints={VIOLATION: constraint_of(result)},
            )
        )
        return None if outside else len(self.study.get_trials(deepcopy=False)) - 1

    def best(self) -> Recommendation | None:
        """The configuration to use: the highest belief less a third of its doubt; None when nothing met every SLO.

        With several objectives it is the most balanced one of the front, as measured, without an interval.
        """
        if len(self.objectives) > 1:
            return best_of_front(self.front(), self.objectives)
        with one_thread():
            beliefs = self._strategy.believe(self._observations())
        return recommended(beliefs, self.study, self.space, self.objective)

    def front(self) -> tuple[FrontPoint, ...]:
        """What nothing measured beats in every objective, within the SLOs and past the quality gate; by the first objective."""
        return front_of(self.study, self.space, self.objectives)

    def enqueue(self, params: Mapping[str, Value]) -> str | None:
        """Put a configuration next in the queue.

        Returns:
            Why it is refused, or None.
        """
        searched = self.space.searched_part(params)
        if searched is None:
            return "a value lies outside the range that is searched"
        if unknown := [name for name in params if name not in self._names]:
            there_are = ", ".join(self.space.distributions)
            return f"there is no knob {', '.join(unknown)}; searched are: {there_are}"
        for name, held in self.space.fixed.items():
            if params.get(name, held) != held:
                return f"{name} is held at {held}: give it a range first"
        reason = self._conflicts(self.space.complete(searched))
        if reason is None:
            self._enqueue(searched, ENQUEUED)
        return reason

    def rejection(self, params: Mapping[str, Value]) -> str | None:
        """Why a configuration is not worth starting, in words, or None."""
        return self._conflicts(params) or self._knowledge.rejection(params) or self._memory.rejection(params)

    def proposal_of(self, trial: FrozenTrial) -> Proposal:
        """The proposal that a trial of the study stands for."""
        return self._proposal(trial.number, trial.user_attrs, trial.params)

    def take_back(self, trial: FrozenTrial) -> None:
        """Give up a trial that was begun and never handed out; what was queued comes again."""
        self.study.tell(trial.number, state=TrialState.FAIL)
        queued = trial.system_attrs.get("fixed_params")
        if queued is not None:
            # Not as a point of the search, which is not queued where it is known: this trial knows it.
            self.study.enqueue_trial(queued, user_attrs={KIND: trial.user_attrs.get(KIND, SEARCH)})

    def trial(self, number: int) -> optuna.Trial:
        """A begun trial by its number, also one that another process began."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        return optuna.Trial(self.study, frozen._trial_id)

    def learn_failure(self, params: Mapping[str, Value], accused: tuple[str, ...], reason: str) -> None:
        """Remember a configuration that is known not to work, whoever found out."""
        self._memory.add(params, accused, reason)

    def _make_strategy(self, seed: int, built: frozenset[str]) -> Strategy:
        grid, knowledge = build_grid(self.space), self._knowledge
        return Strategy(
            grid,
            self.objectives,
            prior=(lambda codes: knowledge.estimate(grid, codes)) if knowledge.has_prior else None,
            feasible=lambda codes: knowledge.feasible(grid, codes),
            allowed=lambda searched: self._conflicts(self.space.complete(searched)) is None,
            forbidden=lambda searched: self._memory.rejection(self.space.complete(searched)) is not None,
            built=built,
            seed=seed,
        )

    def _open_study(self, storage: BaseStorage | None, name: str, sampler: str, seed: int) -> optuna.Study:
        directions = [each.direction for each in self.objectives]
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        # The seed moves on with the study, or a resumed search would draw its first points again.
        seed += len(study.get_trials(deepcopy=False))
        if sampler == ROOFLINE:
            study.sampler = RooflineSampler(self._strategy, self.space.distributions, seed, self._known)
        else:
            study.sampler = optuna_sampler(sampler, seed)
        return study

    def _observations(self) -> list[Observation]:
        return observations_of(self.study) + self._known

    def _queue_early_point(self) -> None:
        """Queue the next of the early points once nothing else waits: what an operator wants comes first.

        A point that the study knows already, as after a resume, is passed over, and so is one of a prior that is doubted by now.
        """
        while self._early and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            point = self._early.pop(0)
            if not (point.by_prior and self._doubts_prior()):
                self._enqueue(point.params, SEARCH)

    def _doubts_prior(self) -> bool:
        with one_thread():
            return self._strategy.doubts_prior(self._observations())

    def _remember_failures(self) -> None:
        """Take in failures that the study holds and the memory does not: told here, before a resume, or by another worker."""
        for params, accused, reason in self._tried.new_failures():
            self._memory.add(params, accused, reason)

    def _check(self, result: Result) -> None:
        """Refuse a result that does not fit the objectives."""
        wanted = len(self.objectives)
        if result.value is not None and wanted > 1 and any(len(point) != wanted for point in result.points or ((),)):
            raise ValueError(
                f"with {wanted} objectives a result needs a value of each: use Result.several or of_levels"
            )

    def _proposal(self, number: int, attributes: Mapping[str, Any], searched: Mapping[str, Value]) -> Proposal:
        kind = str(attributes.get(KIND, SEARCH))
        params = self.space.baseline if kind == BASELINE else self.space.complete(searched)
        knowledge = self._knowledge
        return Proposal(number, kind, params, self._levels, knowledge.expected_level(params), knowledge.gpus(params))

    def _why_not(self, proposal: Proposal) -> str | None:
        if proposal.kind == BASELINE:
            return "is known" if self._tried.knows_baseline() else None
        if proposal.kind == ENQUEUED:
            return self._conflicts(proposal.params) or self._memory.rejection(proposal.params)
        reason = self.rejection(proposal.params)
        if reason is None and self._tried.times(proposal.params) > self._repeats(proposal):
            return "was tried before"
        if reason is None and self._tried.is_running(proposal.params):
            return "is being tried"
        return reason

    def _repeats(self, proposal: Proposal) -> int:
        """How often this one may be measured again: only the search's own sampler knows when that is worth it."""
        sampler = self.study.sampler
        if proposal.id < 0 or not isinstance(sampler, RooflineSampler):
            return 0
        return sampler.repeats(self.study.get_trials(deepcopy=False)[proposal.id].params)

    def _enqueue_new(self) -> bool:
        """Queue a configuration drawn at random among those that are new and can work; False when there is none."""
        judged = set()
        for _ in range(MAX_DRAWS):
            searched = self.space.draw(self._random)
            if (drawn := tuple(sorted(searched.items()))) in judged:
                continue  # in a small space: what was tried is looked up in the study's database
            judged.add(drawn)
            params = self.space.complete(searched)
            if self.rejection(params) is None and not self._tried.times(params) and not self._tried.is_running(params):
                self._enqueue(searched, SEARCH)
                return True
        return False

    def _enqueue(self, searched: Mapping[str, Value], kind: str) -> None:
        self.study.enqueue_trial(dict(searched), user_attrs={KIND: kind}, skip_if_exists=kind == SEARCH)
