"""The search kept in the session: one Optuna study inside the file, from the first moment, so that a killed worker is resumed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tuner.search.exchange import BASELINE, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from optuna.storages import BaseStorage

    from engines.base import Value
    from sessions.records import Params
    from tuner.search.exchange import Proposal, Recommendation
    from tuner.search.search import Search

__all__ = ["BASELINE", "Outcome", "StudySearch"]

_NUMBER: Final = "trial"


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

    def result(self) -> Result:
        """The same as the search wants it."""
        return Result(self.value, self.violation, None, self.reason, self.accused, self.infeasible)


class StudySearch:
    """A `Search` whose study lives in the session file; made again from the same file, it goes on where it was."""

    def __init__(self, path: Path, build: Callable[[BaseStorage], Search]) -> None:
        """Open the study in the session file, or begin it.

        Args:
            path: The session.
            build: Makes the search on a storage.
        """
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self._storage = RDBStorage(f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": 30}})
        self._search = build(self._storage)
        self._unfinished: list[Proposal] = []

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def ask(self) -> Proposal | None:
        """The next configuration to try; what a killed worker left unfinished comes first. None when nothing new is left."""
        return self._unfinished.pop(0) if self._unfinished else self._search.ask()

    def link(self, proposal: Proposal, number: int) -> None:
        """Remember which trial of the session runs a proposal."""
        self._search.trial(proposal.id).set_user_attr(_NUMBER, number)

    def tell(self, proposal: Proposal, result: Result) -> None:
        """Tell what a proposal reached (`Result.of_levels`, or of its score) and what the quality gate said of it."""
        self._search.tell(proposal, result)

    def learn(self, params: Mapping[str, Value], result: Result, kind: str, number: int) -> None:
        """Take in a trial of this session that this study does not know: measured under another objective or other ranges.

        Args:
            params: Its configuration.
            result: What became of it, under the objective of this search.
            kind: Kind of its proposal.
            number: Its number in the session.
        """
        self._search.learn(params, result, kind, {_NUMBER: number})

    def tell_failure(self, proposal: Proposal, accused: tuple[str, ...], reason: str, *, infeasible: bool) -> None:
        """Tell that a proposal gave no result.

        Args:
            proposal: Which one.
            accused: Knobs that are to blame.
            reason: Why, in words.
            infeasible: Whether the configuration is to blame; if not, it teaches nothing and may be proposed again.
        """
        self._search.tell(proposal, Result.failed(reason, accused, infeasible=infeasible))

    def best(self) -> Recommendation | None:
        """The configuration to use, all measurements considered."""
        return self._search.best()

    def best_trial(self) -> int | None:
        """Number in the session of the trial that measured the configuration to use; None when there is none."""
        best = self._search.best()
        return None if best is None or best.id is None else self._number_of(best.id)

    def front(self) -> list[tuple[int, tuple[float, ...]]]:
        """What nothing measured beats in every objective: number of the trial in the session, and a value of each objective."""
        found = [(self._number_of(point.id), point.values) for point in self._search.front()]
        return [(number, values) for number, values in found if number is not None]

    def _number_of(self, identity: int) -> int | None:
        number = self._search.study.get_trials(deepcopy=False)[identity].user_attrs.get(_NUMBER)
        return None if number is None else int(number)

    def enqueue(self, params: Mapping[str, Value]) -> str | None:
        """Put a configuration next in the queue.

        Returns:
            Why it is refused, or None.
        """
        return self._search.enqueue(params)

    def recover(self, finished: Mapping[int, Outcome]) -> None:
        """Put right what a killed worker left: proposals begun and never told are told, or tried again.

        Args:
            finished: What became of the trials of the session that are over, by number.
        """
        for trial in self._search.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            proposal = self._search.proposal_of(trial)
            outcome = finished.get(trial.user_attrs.get(_NUMBER, -1))
            if outcome is None:
                self._unfinished.append(proposal)
            else:
                self._search.tell(proposal, outcome.result())
        for outcome in finished.values():
            if outcome.infeasible:
                self._search.learn_failure(outcome.params, outcome.accused, outcome.reason)
