"""The search: asked for a configuration, told what it reached. No files, no processes, no clock.

`trtune.Search` is this class. The worker uses it through `tuner.search.study.StudySearch`, which keeps the study in the session.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import optuna
from optuna.trial import TrialState

from engines.models import Checkpoint, ModelShape
from tuner.search.encoding import build_grid
from tuner.search.exchange import BASELINE, ENQUEUED, SEARCH, Proposal, Recommendation, Result
from tuner.search.feasibility import Feasibility
from tuner.search.memory import FailureMemory
from tuner.search.prior import Roofline
from tuner.search.sampler import (
    FAILURE,
    GATE,
    ROOFLINE,
    VIOLATION,
    RooflineSampler,
    observations_of,
    optuna_sampler,
)
from tuner.search.settings import SettingsReader
from tuner.search.space import build_space
from tuner.search.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from engines.base import Knob, Value
    from sessions.records import Params
    from tuner.plan import KnobRange, KnobValue
    from tuner.search.objective import Objective
    from tuner.search.problem import Hardware, Meaning, Prior, WorkloadShape
    from tuner.search.space import Space

__all__ = ["BASELINE", "ENQUEUED", "SEARCH", "Proposal", "Recommendation", "Result", "Search"]

STUDY_NAME: Final = "trtune"
MAX_REJECTIONS: Final = 5
"""Proposals thrown away in a row before one is drawn at random instead: each of them is a row in the study."""

MAX_DRAWS: Final = 1000
"""Random draws in vain after which the space counts as exhausted."""

ADVICE: Final = 2
"""Starting points that are tried at once without a prior; more of them would only delay the model."""

DIVERSE: Final = 2
"""Good and different configurations of the prior that are tried before the model chooses."""

_KIND, _PARAMS, _OUTSIDE = "kind", "params", "outside_value"


class Search:
    """Proposes configurations, the baseline first, and learns from what became of them."""

    def __init__(
        self,
        knobs: Sequence[Knob],
        objective: Objective,
        *,
        hardware: Hardware | None = None,
        model: Checkpoint | ModelShape | None = None,
        workload: WorkloadShape | None = None,
        wanted: Mapping[str, KnobRange | tuple[KnobValue, ...] | KnobValue] | None = None,
        baseline: Mapping[str, KnobValue] | None = None,
        conflicts: Callable[[Mapping[str, Value]], str | None] = lambda _params: None,
        starting_points: Sequence[Mapping[str, Value]] = (),
        meanings: Mapping[str, Meaning] | None = None,
        prior: Prior | Literal["roofline", "none"] = "roofline",
        sampler: str = ROOFLINE,
        seed: int = 0,
        storage: BaseStorage | None = None,
    ) -> None:
        """Begin a search, or go on with the one in the storage.

        What is left out is not assumed: without hardware or model nothing is rejected beforehand; without either of them or the
        workload there is no prior, and the search learns from its measurements alone.

        Args:
            knobs: All knobs, in any names; names that servers use are understood (`problem.Meaning`).
            objective: What counts as better.
            hardware: The GPUs.
            model: Shape of the model, or checkpoint with its precision.
            workload: Lengths and levels of the load.
            wanted: Range, choices or fixed value by knob; empty: every knob marked as searched, or every one if none is marked.
            baseline: Values of the first trial that differ from the defaults.
            conflicts: Why a configuration cannot work, or None; such a one is never proposed.
            starting_points: Configurations worth trying early, best first.
            meanings: What knobs with unusual names stand for.
            prior: `roofline` estimates from hardware, model and workload where all three are known; `none` does without;
                or an estimate of the caller's own.
            sampler: `roofline`, or one of Optuna's: `tpe`, `gp`, `nsga2`, `random`.
            seed: Makes the proposals repeatable.
            storage: Where the Optuna study lives; None: in memory.

        Raises:
            BadPlan: If a wish and the knobs do not fit together, or there is no such sampler.
            NothingToSearch: If no knob is left to change.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if not any(knob.searched for knob in knobs) and not wanted:
            wanted = {knob.name: _own_domain(knob) for knob in knobs}
        self.space: Space = build_space(knobs, wanted or {}, baseline or {})
        self.objective = objective
        self._conflicts = conflicts
        self._levels = workload.levels if workload else ()
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        coarse = frozenset(knob.name for knob in knobs if knob.coarse)
        self._memory = FailureMemory(unordered=coarse | {knob.name for knob in knobs if knob.both_ways})
        checkpoint = Checkpoint(model) if isinstance(model, ModelShape) else model
        defaults = {knob.name: knob.default for knob in knobs} | self.space.fixed
        self._reader = SettingsReader(defaults, checkpoint, meanings)
        self._feasibility: Feasibility | None = None
        if hardware and checkpoint:
            self._feasibility = Feasibility(hardware, checkpoint, workload, self._reader)
            if prior == "roofline" and workload:
                prior = Roofline(hardware, checkpoint, workload)
        self._prior = prior if not isinstance(prior, str) and prior.covers(objective) else None
        self._strategy = self._make_strategy(seed)
        self.study = self._open_study(storage, sampler, seed)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if FAILURE in trial.user_attrs:
                self._remember(trial)
        if not self.study.get_trials(deepcopy=False):
            self._enqueue(self.space.searched_part(self.space.baseline) or {}, BASELINE)
        self._early = self._early_points(starting_points)

    def ask(self) -> Proposal | None:
        """The next configuration to try; None when nothing new is left.

        A proposal that cannot work, that asks for as much as one that failed, or that was tried before is thrown away.
        """
        for attempt in range(MAX_REJECTIONS + 1):
            if attempt == MAX_REJECTIONS and not self._enqueue_new():
                return None
            self._queue_early_point()
            trial = self.study.ask(dict(self.space.distributions))
            proposal = self._proposal(trial.number, trial.user_attrs, trial.params)
            reason = self._why_not(proposal)
            if reason is None:
                trial.set_user_attr(_PARAMS, proposal.params)
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
        trial = self.trial(proposal.id)
        if result.value is None:
            self._memory.add(proposal.params, result.accused, result.reason)
            trial.set_user_attr(FAILURE, {"reason": result.reason, "accused": list(result.accused)})
        if result.passed_gate is not None:
            trial.set_user_attr(GATE, result.passed_gate)
        if proposal.kind == BASELINE and self.space.searched_part(proposal.params) is None:
            # The baseline lies outside the ranges: the sampler must not take its value for that of a point inside.
            if result.value is not None and result.violation == 0:
                trial.set_user_attr(_OUTSIDE, result.value)
            self.study.tell(proposal.id, state=TrialState.FAIL)
            return
        if VIOLATION not in trial.constraints:
            trial.set_constraint(VIOLATION, self._constraint(result))
        self.study.tell(proposal.id, self._worst() if result.value is None else result.value)

    def best(self) -> Recommendation | None:
        """The configuration to use: the highest belief less a third of its doubt; None when nothing met every SLO."""
        beliefs = self._strategy.believe(observations_of(self.study))
        outside = self._best_outside()
        if not beliefs:
            return outside
        belief = beliefs[0]
        values = [
            trial.value
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if trial.params == belief.params and trial.value is not None and FAILURE not in trial.user_attrs
        ]
        pick = max if self.objective.direction == "maximize" else min
        measured = pick(values)
        params = self.space.complete(belief.params)
        found = Recommendation(params, measured, belief.expected, belief.low, belief.high)
        if outside is not None and self.objective.better(outside.expected, found.expected):
            return outside
        return found

    def enqueue(self, params: Mapping[str, Value]) -> str | None:
        """Put a configuration next in the queue.

        Returns:
            Why it is refused, or None.
        """
        searched = self.space.searched_part(params)
        if searched is None:
            return "a value lies outside the range that is searched"
        reason = self._conflicts(self.space.complete(searched))
        if reason is None:
            self._enqueue(searched, ENQUEUED)
        return reason

    def rejection(self, params: Mapping[str, Value]) -> str | None:
        """Why a configuration is not worth starting, in words, or None."""
        reason = self._conflicts(params)
        if reason is None and self._feasibility is not None:
            rejected = self._feasibility.rejection(params)
            reason = rejected.reason if rejected else None
        return reason or self._memory.verdict(params)

    def proposal_of(self, trial: FrozenTrial) -> Proposal:
        """The proposal that a trial of the study stands for."""
        return self._proposal(trial.number, trial.user_attrs, trial.params)

    def trial(self, number: int) -> optuna.Trial:
        """A begun trial by its number, also one that another process began."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        return optuna.Trial(self.study, frozen._trial_id)

    def learn_failure(self, params: Mapping[str, Value], accused: tuple[str, ...], reason: str) -> None:
        """Remember a configuration that is known not to work, whoever found out."""
        self._memory.add(params, accused, reason)

    def _make_strategy(self, seed: int) -> Strategy:
        grid = build_grid(self.space)

        def feasible(codes: NDArray[np.int64]) -> NDArray[np.bool_]:
            if self._feasibility is None:
                return np.ones(len(codes), dtype=np.bool_)
            return self._feasibility.mask(self._reader.of_grid(grid, codes))

        def estimate(codes: NDArray[np.int64]) -> NDArray[np.float64]:
            assert self._prior is not None
            return self._prior.utility(self._reader.of_grid(grid, codes), self.objective)

        return Strategy(
            grid,
            self.objective,
            prior=estimate if self._prior else None,
            feasible=feasible,
            allowed=lambda searched: (
                self._conflicts(params := self.space.complete(searched)) is None
                and self._memory.verdict(params) is None
            ),
            seed=seed,
        )

    def _open_study(self, storage: BaseStorage | None, sampler: str, seed: int) -> optuna.Study:
        study = optuna.create_study(
            storage=storage, study_name=STUDY_NAME, direction=self.objective.direction, load_if_exists=True
        )
        # The seed moves on with the study, or a resumed search would draw its first points again.
        seed += len(study.get_trials(deepcopy=False))
        if sampler == ROOFLINE:
            study.sampler = RooflineSampler(self._strategy, self.space.distributions, seed)
        else:
            study.sampler = optuna_sampler(sampler, seed)
        return study

    def _early_points(self, starting_points: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
        """What comes after the baseline: the prior's best, the first of the advice and another of the prior; or only advice."""
        advice: list[dict[str, Value]] = []
        for point in starting_points:
            if (near := self.space.nearest(point)) not in advice:
                advice.append(near)
        diverse = self._strategy.diverse(DIVERSE)
        if not diverse:
            return advice[:ADVICE]
        return [diverse[0], *advice[:1], *diverse[1:]]

    def _queue_early_point(self) -> None:
        """Queue the next of the early points once nothing else waits: what an operator wants comes first.

        A point that the study knows already, as after a resume, is passed over.
        """
        while self._early and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._enqueue(self._early.pop(0), SEARCH)

    def _remember(self, trial: FrozenTrial) -> None:
        failure = trial.user_attrs[FAILURE]
        params = trial.user_attrs.get(_PARAMS, trial.params)
        self._memory.add(params, tuple(failure["accused"]), failure["reason"])

    def _proposal(self, number: int, attributes: Mapping[str, Any], searched: Mapping[str, Value]) -> Proposal:
        kind = str(attributes.get(_KIND, SEARCH))
        params = self.space.baseline if kind == BASELINE else self.space.complete(searched)
        expected: float | None = None
        if self._prior is not None:
            settings = self._reader.of_params([params])
            expected = float(self._prior.best_level(settings, self.objective)[0])
        return Proposal(number, kind, params, self._levels, expected)

    def _why_not(self, proposal: Proposal) -> str | None:
        if proposal.kind == BASELINE:
            return None
        if proposal.kind == ENQUEUED:
            return self._conflicts(proposal.params) or self._memory.verdict(proposal.params)
        reason = self.rejection(proposal.params)
        if reason is None and self._times_tried(proposal.params) > self._repeats(proposal):
            return "was tried before"
        return reason

    def _repeats(self, proposal: Proposal) -> int:
        """How often this one may be measured again: only the search's own sampler knows when that is worth it."""
        sampler = self.study.sampler
        if proposal.id < 0 or not isinstance(sampler, RooflineSampler):
            return 0
        return sampler.repeats(self.study.get_trials(deepcopy=False)[proposal.id].params)

    def _times_tried(self, params: Params) -> int:
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        # The baseline names only what it changes; what counts is the configuration that it stands for.
        return sum(params in (trial.user_attrs.get(_PARAMS), self.space.complete(trial.params)) for trial in trials)

    def _constraint(self, result: Result) -> float:
        """What Optuna's samplers see as broken: SLOs, failures and the quality gate."""
        return 1.0 if result.value is None or result.passed_gate is False else result.violation

    def _enqueue_new(self) -> bool:
        """Queue a configuration drawn at random among those that are new and can work; False when there is none."""
        for _ in range(MAX_DRAWS):
            searched = self.space.draw(self._random)
            params = self.space.complete(searched)
            if self._times_tried(params) == 0 and self.rejection(params) is None:
                self._enqueue(searched, SEARCH)
                return True
        return False

    def _worst(self) -> float:
        """A value for a trial that has none: as bad as the worst one known."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = [trial.value for trial in trials if trial.value is not None]
        if not values:
            return 0.0
        return min(values) if self.objective.direction == "maximize" else max(values)

    def _best_outside(self) -> Recommendation | None:
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if _OUTSIDE in trial.user_attrs:
                value = float(trial.user_attrs[_OUTSIDE])
                return Recommendation(dict(self.space.baseline), value, value, value, value)
        return None

    def _enqueue(self, searched: Mapping[str, Value], kind: str) -> None:
        self.study.enqueue_trial(dict(searched), user_attrs={_KIND: kind}, skip_if_exists=kind == SEARCH)


def _own_domain(knob: Knob) -> KnobRange | tuple[KnobValue, ...]:
    """The whole domain of a knob."""
    from tuner.plan import KnobRange  # the plan's models load pydantic: only this needs them

    if knob.kind == "bool":
        return (False, True)
    if knob.choices or knob.low is None or knob.high is None:
        return tuple(knob.choices)
    return KnobRange(low=knob.low, high=knob.high, log=knob.log)
