"""What a study holds already: which configurations were tried, whether the baseline is known, what has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.trial import TrialState

from tuner.search.exchange import BASELINE
from tuner.search.record import FAILURE, KIND, OUTSIDE, PARAMS, completed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from engines.knob import Value
    from sessions.records import Params
    from tuner.search.space import Space


class Tried:
    """The configurations of a study, looked up again and again."""

    def __init__(self, study: Study, space: Space) -> None:
        self._study = study
        self._space = space
        self._completed: dict[int, Params] = {}
        self._failures_told: set[int] = set()

    def times(self, params: Mapping[str, Value]) -> int:
        """How often a whole configuration was tried."""
        return sum(self._is(trial, params) for trial in completed(self._study))

    def is_running(self, params: Mapping[str, Value]) -> bool:
        """Whether a configuration is being tried now."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return any(PARAMS in trial.user_attrs and self._is(trial, params) for trial in running)

    def knows_baseline(self) -> bool:
        """Whether a baseline was taken in that was measured before this study began."""
        return any(
            trial.user_attrs.get(KIND) == BASELINE
            and (trial.state == TrialState.COMPLETE or OUTSIDE in trial.user_attrs)
            for trial in self._study.get_trials(deepcopy=False)
        )

    def new_failures(self) -> Iterator[tuple[Params, tuple[str, ...], str]]:
        """Configuration, accused knobs and reason of each failure that was not told before, whoever found it."""
        for trial in completed(self._study):
            if FAILURE in trial.user_attrs and trial.number not in self._failures_told:
                self._failures_told.add(trial.number)
                failure = trial.user_attrs[FAILURE]
                yield trial.user_attrs.get(PARAMS, trial.params), tuple(failure["accused"]), failure["reason"]

    def _is(self, trial: FrozenTrial, params: Mapping[str, Value]) -> bool:
        """Whether a trial is of a configuration. The baseline names only what it changes, and counts as what it stands for."""
        return params in (trial.user_attrs.get(PARAMS), self._whole(trial))

    def _whole(self, trial: FrozenTrial) -> Params:
        """The configuration that a trial stands for."""
        if trial.number not in self._completed:
            self._completed[trial.number] = self._space.complete(trial.params)
        return self._completed[trial.number]
