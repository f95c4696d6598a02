"""The search kept in the session: one Optuna study inside the file, from the first moment, so that a killed worker is resumed.

The session's trials are the truth; the study is made from them. When ranges or objective change, or when the study lacks what the
session has, it is filled again from there.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tuner.search.exchange import BASELINE, ENQUEUED, Result
from tuner.search.mirror import MirroredStorage
from tuner.search.record import PARAMS
from tuner.search.search import STUDY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from engines.knob import Value
    from sessions.records import Params
    from tuner.search.exchange import Proposal, Recommendation
    from tuner.search.search import Search

__all__ = ["BASELINE", "Past", "Queued", "StudySearch"]

_NUMBER: Final = "trial"
_PURPOSE: Final = "purpose"
_TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True)
class Past:
    """A trial of the session that is over.

    Attributes:
        number: Its number in the session.
        kind: Its kind there.
        params: Its configuration.
        result: What it reached under the objective in force; None when it teaches nothing.
    """

    number: int
    kind: str
    params: Params
    result: Result | None


@dataclass(frozen=True, slots=True)
class Queued:
    """A configuration that runs soon.

    Attributes:
        params: The whole configuration.
        why: Who wants it, in words.
    """

    params: Params
    why: str


class StudySearch:
    """A `Search` whose study lives in the session file; made again from the same file, it goes on where it was."""

    def __init__(
        self,
        path: Path,
        build: Callable[[BaseStorage, str], Search],
        purpose: str = "",
        shared: tuple[BaseStorage, str] | None = None,
    ) -> None:
        """Open the study in the session file, or begin it.

        Args:
            path: The session.
            build: Makes the search on a storage, in a study of that name.
            purpose: What the study is for: its ranges and objective. Another purpose has a study of its own.
            shared: A database that holds the study instead of the session file, and the study's name in it; stays open.
        """
        logging.getLogger("alembic").setLevel(logging.ERROR)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        options = {"connect_args": {"timeout": _TIMEOUT_S}}
        self._own: RDBStorage | None = None
        self._storage: BaseStorage
        if shared is None:
            self._own = RDBStorage(f"sqlite:///{path.resolve()}", engine_kwargs=options)
            self._storage, name = MirroredStorage(self._own), STUDY_NAME
        else:
            self._storage, name = shared
        self._search = build(self._storage, _study_name(self._storage, name, purpose))
        self._search.study.set_user_attr(_PURPOSE, purpose)
        self._unfinished: list[Proposal] = []
        self._cut_short = False

    def close(self) -> None:
        """Let go of the file."""
        if self._own is not None:
            self._own.remove_session()
            self._own.engine.dispose()

    def ask(self) -> Proposal | None:
        """The next configuration to try; what a killed worker left unfinished comes first. None when nothing new is left."""
        if self._unfinished:
            return self._unfinished.pop(0)
        if self._cut_short:
            self._take_back()
        self._cut_short = True
        proposal = self._search.ask()
        self._cut_short = False
        return proposal

    @property
    def search(self) -> Search:
        """The search itself."""
        return self._search

    def row_of(self, proposal: Proposal) -> int:
        """Identity of a proposal in the storage: what signs of life are given for."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._search.study._study_id, proposal.id)

    def link(self, proposal: Proposal, number: int) -> None:
        """Remember which trial of the session runs a proposal."""
        self._search.trial(proposal.id).set_user_attr(_NUMBER, number)

    def tell(self, proposal: Proposal, result: Result) -> None:
        """Tell what a proposal reached; one that has been told already is left as it is."""
        if not self._search.study.get_trials(deepcopy=False)[proposal.id].state.is_finished():
            with suppress(UpdateFinishedTrialError):  # somebody gave it up for lost in the database
                self._search.tell(proposal, result)

    def best(self) -> Recommendation | None:
        """The configuration to use, all measurements considered."""
        return self._search.best()

    def best_trial(self) -> int | None:
        """Number in the session of the trial that measured the configuration to use; None when there is none."""
        best = self._search.best()
        return None if best is None or best.id is None else self._number_of(best.id)

    def enqueue(self, params: Mapping[str, Value]) -> str | None:
        """Put a configuration next in the queue.

        Returns:
            Why it is refused, or None.
        """
        return self._search.enqueue(params)

    def covers(self, params: Mapping[str, Value]) -> bool:
        """Whether a configuration lies within the ranges that are searched."""
        return self._search.space.covers(params)

    def queue(self) -> list[Queued]:
        """What was enqueued by hand, in order of running."""
        space = self._search.space
        return [Queued(space.complete(_wanted(trial)), "enqueued by hand") for trial in self._waiting()]

    def dequeue(self, place: int) -> str | None:
        """Take a configuration out of the queue.

        Args:
            place: Its place in `queue`, from 0.

        Returns:
            Why it is refused, or None.
        """
        waiting = self._waiting()
        if not 0 <= place < len(waiting):
            return f"the queue has {len(waiting)} configurations: there is no place {place}"
        self._storage.set_trial_state_values(waiting[place]._trial_id, TrialState.FAIL)
        return None

    def replace_queue(self, wanted: Iterable[Params]) -> list[str]:
        """Queue these configurations and no others: a study that is taken up again may hold some from when it was left.

        Returns:
            Why some of them are refused.
        """
        while self._waiting():
            self.dequeue(0)
        return [reason for params in wanted if (reason := self.enqueue(params)) is not None]

    def recover(self, past: Iterable[Past], under_way: Collection[int] = ()) -> None:
        """Make the study agree with the session, whatever a killed worker left.

        Proposals begun and never told are told, or tried again; trials that the study does not know are added to it.

        Args:
            past: The trials of the session that are over.
            under_way: Numbers of those that run now: they are told when they are over (`adopt`).
        """
        self._take_back()
        finished = {each.number: each for each in past}
        known: set[int] = set()
        for trial in self._search.study.get_trials(deepcopy=False):
            number = trial.user_attrs.get(_NUMBER, -1)
            known.add(number)
            if trial.state != TrialState.RUNNING or number in under_way:
                continue
            proposal = self._search.proposal_of(trial)
            if number not in finished:
                self._unfinished.append(proposal)
            else:
                self._search.tell(proposal, finished[number].result or _UNTOLD)
        for each in finished.values():
            if each.number not in known:
                self.adopt(each)

    def adopt(self, past: Past) -> None:
        """Add a trial of the session that this search did not ask for; one outside the ranges only teaches what fails."""
        for trial in self._search.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(_NUMBER) == past.number:  # asked for before the study was left and taken up again
                self._search.tell(self._search.proposal_of(trial), past.result or _UNTOLD)
                return
        if past.result is None:
            return
        if past.kind == BASELINE or self.covers(past.params):
            self._search.learn(past.params, past.result, past.kind, {_NUMBER: past.number})
        elif past.result.value is None and past.result.infeasible:
            self._search.learn_failure(past.params, past.result.accused, past.result.reason)

    def _take_back(self) -> None:
        """Give up trials that were begun and not handed out, as when the database went away or the worker was killed meanwhile."""
        for trial in self._search.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if PARAMS not in trial.user_attrs:
                self._search.take_back(trial)

    def _waiting(self) -> list[FrozenTrial]:
        trials = self._search.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return [trial for trial in trials if trial.user_attrs.get("kind") == ENQUEUED]

    def _number_of(self, identity: int) -> int | None:
        number = self._search.study.get_trials(deepcopy=False)[identity].user_attrs.get(_NUMBER)
        return None if number is None else int(number)


def _study_name(storage: BaseStorage, name: str, purpose: str) -> str:
    """Name of the study with a purpose; a new one when there is none. Studies for earlier ranges and objectives stay."""
    studies = [study for study in optuna.get_all_study_summaries(storage=storage) if _is_of(study.study_name, name)]
    for study in studies:
        if study.user_attrs.get(_PURPOSE, purpose) == purpose:
            return study.study_name
    return f"{name}-{len(studies) + 1}" if studies else name


def _is_of(study: str, name: str) -> bool:
    """Whether a study is the one of that name or one of its successors."""
    return study == name or (study.startswith(f"{name}-") and study[len(name) + 1 :].isdigit())


_UNTOLD: Final = Result.failed("it gave no result", infeasible=False)


def _wanted(trial: FrozenTrial) -> Mapping[str, Value]:
    """The values that a queued trial will have."""
    wanted: Mapping[str, Value] = trial.system_attrs.get("fixed_params", {})
    return wanted
