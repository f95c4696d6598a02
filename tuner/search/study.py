"""The search as Optuna sees it: one study inside the session file, asked for configurations and told results."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import Trial, TrialState

from tuner.search.memory import FailureMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from engines.base import Value
    from sessions.records import Params
    from tuner.search.objective import Objective, Score
    from tuner.search.space import Space

STUDY_NAME = "trtune"
MAX_REJECTIONS = 5
"""Proposals thrown away in a row before one is drawn at random instead: each of them is a row in the study."""

MAX_DRAWS = 1000
"""Random draws in vain after which the space counts as exhausted."""

BASELINE, SEARCH, ENQUEUED = "baseline", "search", "enqueued"

_KIND, _NUMBER, _PARAMS, _VIOLATION = "kind", "trial", "params", "violation"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration to try.

    Attributes:
        id: Number of the trial in the Optuna study.
        kind: `baseline`, `search` or `enqueued`.
        params: The whole configuration.
    """

    id: int
    kind: str
    params: Params


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trial that is over.

    Attributes:
        params: Its configuration.
        value: Its score, or None.
        violation: How far its worst-broken SLO is from the limit.
        infeasible: Whether it did not work because of its configuration.
        accused: Knobs that are to blame.
        reason: Why it gave no result, in words.
    """

    params: Params
    value: float | None
    violation: float
    infeasible: bool = False
    accused: tuple[str, ...] = ()
    reason: str = ""


class Search:
    """Proposes configurations, the baseline first, and learns from what became of them.

    Everything it knows is in the session file from the first moment; made again from the same file, it goes on where it was.
    """

    def __init__(
        self,
        path: Path,
        space: Space,
        objective: Objective,
        *,
        conflicts: Callable[[Mapping[str, Value]], str | None],
        starting_points: Sequence[Mapping[str, Value]] = (),
        sampler: str = "tpe",
        seed: int = 0,
    ) -> None:
        """Open the study in the session file, or begin it.

        Args:
            path: The session.
            space: What is searched.
            objective: What counts as better.
            conflicts: Why a configuration cannot work, or None; such a one is never proposed.
            starting_points: Configurations worth trying early, best first.
            sampler: `tpe` or `random`.
            seed: Makes the proposals repeatable.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self._space = space
        self._objective = objective
        self._conflicts = conflicts
        self._memory = FailureMemory()
        self._unfinished: list[Proposal] = []
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._storage = RDBStorage(f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": 30}})
        known = STUDY_NAME in optuna.get_all_study_names(self._storage)
        begun = len(optuna.load_study(study_name=STUDY_NAME, storage=self._storage).trials) if known else 0
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=STUDY_NAME,
            direction=objective.direction,
            # The seed moves on with the study, or a resumed search would propose its first points again.
            sampler=_sampler(sampler, seed + begun),
            load_if_exists=True,
        )
        if not known:
            self._enqueue(space.searched_part(space.baseline) or {}, BASELINE)
            for point in starting_points:
                self._enqueue(space.nearest(point), SEARCH)

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def ask(self) -> Proposal | None:
        """The next configuration to try; None when nothing new is left.

        What a killed worker left unfinished comes first. A proposal that cannot work, that asks for as much as one that failed,
        or that was tried before is thrown away.
        """
        if self._unfinished:
            return self._unfinished.pop(0)
        for attempt in range(MAX_REJECTIONS + 1):
            if attempt == MAX_REJECTIONS and not self._enqueue_new():
                return None
            trial = self._study.ask(dict(self._space.distributions))
            proposal = self._proposal(trial.number, trial.user_attrs, trial.params)
            reason = self._why_not(proposal)
            if reason is None:
                trial.set_user_attr(_PARAMS, proposal.params)
                return proposal
            trial.set_user_attr("rejected", reason)
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def link(self, proposal: Proposal, number: int) -> None:
        """Remember which trial of the session runs a proposal."""
        self._trial(proposal.id).set_user_attr(_NUMBER, number)

    def tell(self, proposal: Proposal, score: Score) -> None:
        """Tell what a proposal reached. One that does not meet every SLO breaks its constraint by that much."""
        self._tell(proposal, score.value, score.violation)

    def tell_failure(self, proposal: Proposal, accused: tuple[str, ...], reason: str, *, infeasible: bool) -> None:
        """Tell that a proposal gave no result.

        Args:
            proposal: Which one.
            accused: Knobs that are to blame.
            reason: Why, in words.
            infeasible: Whether the configuration is to blame; if not, it teaches nothing and may be proposed again.
        """
        if infeasible:
            self._memory.add(proposal.params, accused, reason)
            self._tell(proposal, None, 1.0)
        else:
            self._study.tell(proposal.id, state=TrialState.FAIL)

    def enqueue(self, params: Mapping[str, Value]) -> str | None:
        """Put a configuration next in the queue.

        Returns:
            Why it is refused, or None.
        """
        searched = self._space.searched_part(params)
        if searched is None:
            return "a value lies outside the range that is searched"
        reason = self._conflicts(self._space.complete(searched))
        if reason is None:
            self._enqueue(searched, ENQUEUED)
        return reason

    def recover(self, finished: Mapping[int, Outcome]) -> None:
        """Put right what a killed worker left: proposals begun and never told are told, or tried again.

        Args:
            finished: What became of the trials of the session that are over, by number.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            proposal = self._proposal(trial.number, trial.user_attrs, trial.params)
            outcome = finished.get(trial.user_attrs.get(_NUMBER, -1))
            if outcome is None:
                self._unfinished.append(proposal)
            elif outcome.infeasible or outcome.value is not None:
                self._tell(proposal, outcome.value, outcome.violation)
            else:
                self._study.tell(proposal.id, state=TrialState.FAIL)
        for outcome in finished.values():
            if outcome.infeasible:
                self._memory.add(outcome.params, outcome.accused, outcome.reason)

    def _proposal(self, number: int, attributes: Mapping[str, Any], searched: Mapping[str, Value]) -> Proposal:
        kind = str(attributes.get(_KIND, SEARCH))
        params = self._space.baseline if kind == BASELINE else self._space.complete(searched)
        return Proposal(number, kind, params)

    def _why_not(self, proposal: Proposal) -> str | None:
        if proposal.kind == BASELINE:
            return None
        reason = self._conflicts(proposal.params) or self._memory.verdict(proposal.params)
        if reason is None and proposal.kind == SEARCH and proposal.params in self._tried():
            return "was tried before"
        return reason

    def _tried(self) -> list[Params]:
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial.user_attrs[_PARAMS] for trial in trials if _PARAMS in trial.user_attrs]

    def _tell(self, proposal: Proposal, value: float | None, violation: float) -> None:
        if proposal.kind == BASELINE and self._space.searched_part(proposal.params) is None:
            # The baseline lies outside the ranges: Optuna must not take its value for that of a point inside.
            self._study.tell(proposal.id, state=TrialState.FAIL)
            return
        trial = self._trial(proposal.id)
        if _VIOLATION not in trial.constraints:
            trial.set_constraint(_VIOLATION, violation)
        self._study.tell(proposal.id, self._worst() if value is None else value)

    def _enqueue_new(self) -> bool:
        """Queue a configuration drawn at random among those that are new and can work; False when there is none."""
        for _ in range(MAX_DRAWS):
            searched = self._space.draw(self._random)
            if self._why_not(Proposal(-1, SEARCH, self._space.complete(searched))) is None:
                self._enqueue(searched, SEARCH)
                return True
        return False

    def _trial(self, number: int) -> Trial:
        """A begun trial by its number, also one that another worker began."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        return Trial(self._study, frozen._trial_id)

    def _worst(self) -> float:
        """A value for a trial that has none: as bad as the worst one known."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = [trial.value for trial in trials if trial.value is not None]
        if not values:
            return 0.0
        return min(values) if self._objective.direction == "maximize" else max(values)

    def _enqueue(self, searched: Mapping[str, Value], kind: str) -> None:
        self._study.enqueue_trial(dict(searched), user_attrs={_KIND: kind}, skip_if_exists=kind == SEARCH)


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=6, n_ei_candidates=48)
