"""A study's storage as its only driver sees it: read once, written through, and remembered in this process.

Optuna's database storage reads every unfinished trial again at each look, and one ask looks a dozen times: with hundreds of
trials under way it would do nothing else. A driver that holds its study alone knows what is in it, since it wrote it.
"""

from __future__ import annotations

import copy
import json
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from optuna.distributions import check_distribution_compatibility
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.trial import FrozenTrial, TrialState

from tuner.search.values import ValueWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.study import StudyDirection
    from optuna.study._frozen import FrozenStudy

    from tuner.search.values import Values

T = TypeVar("T")

_UNFINISHED: Final = (TrialState.RUNNING, TrialState.WAITING)


@dataclass(slots=True)
class _Table:
    """The trials of a study, by number, the numbers of those that are not over, and the first domain seen of each name."""

    trials: list[FrozenTrial]
    unfinished: dict[int, None] = field(default_factory=dict)
    domains: dict[str, BaseDistribution] = field(default_factory=dict)

    def put(self, trial: FrozenTrial) -> None:
        """Keep a trial, new or changed; what was handed out before stays as it was."""
        for name, distribution in trial.distributions.items():
            self.domains.setdefault(name, distribution)
        if trial.number == len(self.trials):
            self.trials.append(trial)
        else:
            self.trials[trial.number] = trial
        if trial.state.is_finished():
            self.unfinished.pop(trial.number, None)
        else:
            self.unfinished[trial.number] = None


class MirroredStorage(BaseStorage):
    """Answers about trials from memory and writes to another storage first.

    Only for a driver that has its studies for itself. After an error of the other storage it is not known what was written:
    everything is read again at the next look. So it is when something there shows that somebody else has written.

    The values of a trial are written together, before its next attribute or state.
    """

    def __init__(self, storage: BaseStorage) -> None:
        """Stand before a storage.

        Args:
            storage: Keeps what is written. Nothing is read from it yet.
        """
        self._storage = get_storage(storage)
        self._writer = ValueWriter(storage) if isinstance(storage, RDBStorage) else None
        self._unwritten: dict[int, dict[str, tuple[float, BaseDistribution]]] = {}
        self._lock = threading.RLock()
        self._tables: dict[int, _Table] = {}
        self._places: dict[int, tuple[int, int]] = {}

    def forget(self) -> None:
        """Read everything again at the next look: somebody else may have written."""
        with self._lock:
            self._tables.clear()

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """As the other storage."""
        return self._storage.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """As the other storage."""
        with self._lock:
            self._tables.pop(study_id, None)
            self._storage.delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the other storage."""
        self._storage.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the other storage."""
        self._storage.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        """As the other storage."""
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """As the other storage."""
        return self._storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """As the other storage."""
        return self._storage.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """As the other storage."""
        return self._storage.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """As the other storage."""
        return self._storage.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        """As the other storage."""
        return self._storage.get_all_studies()

    def remove_session(self) -> None:
        """As the other storage."""
        self._storage.remove_session()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin a trial; the other storage gives it its identity and its number."""
        with self._lock:
            table = self._table(study_id)
            trial_id = self._write(lambda: self._storage.create_new_trial(study_id, template_trial))
            trial = _new_trial(template_trial)
            trial.number, trial._trial_id = len(table.trials), trial_id
            if self._is_numbered(study_id, trial):
                self._places[trial_id] = (study_id, trial.number)
                table.put(trial)
            else:
                self.forget()
            return trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Take a value; a database gets it with the others."""
        value = {param_name: (param_value_internal, distribution)}
        with self._lock:
            if self._writer is None:
                self._write(
                    lambda: self._storage.set_trial_param(trial_id, param_name, param_value_internal, distribution)
                )
            else:
                self._check(trial_id, param_name, distribution)
                self._unwritten.setdefault(trial_id, {}).update(value)
            self._change(trial_id, lambda trial: _put_values(trial, value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Write how far a trial is; False when a waiting one was taken by somebody else."""

        def change(trial: FrozenTrial) -> None:
            trial.state = state
            if values is not None:
                trial.values = list(values)
            if state == TrialState.RUNNING:
                trial.datetime_start = _now()
            if state.is_finished():
                trial.datetime_complete = _now()

        with self._lock:
            if not self._write_on(trial_id, lambda: self._storage.set_trial_state_values(trial_id, state, values)):
                self.forget()
                return False
            self._change(trial_id, change)
            return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Write a value on the way."""

        def change(trial: FrozenTrial) -> None:
            trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}

        with self._lock:
            self._write_on(
                trial_id, lambda: self._storage.set_trial_intermediate_value(trial_id, step, intermediate_value)
            )
            self._change(trial_id, change)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write an attribute."""

        def change(trial: FrozenTrial) -> None:
            trial.user_attrs = {**trial.user_attrs, key: _as_read(value)}

        with self._lock:
            self._write_on(trial_id, lambda: self._storage.set_trial_user_attr(trial_id, key, value))
            self._change(trial_id, change)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Write an attribute of Optuna's."""

        def change(trial: FrozenTrial) -> None:
            trial.system_attrs = {**trial.system_attrs, key: _as_read(value)}

        with self._lock:
            self._write_on(trial_id, lambda: self._storage.set_trial_system_attr(trial_id, key, value))
            self._change(trial_id, change)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial by its identity."""
        with self._lock:
            if trial_id not in self._places:
                return self._storage.get_trial(trial_id)
            study_id, number = self._places[trial_id]
            trial = self._table(study_id).trials[number]
        return trial if trial.state.is_finished() else _own_copy(trial)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Identity of a trial."""
        with self._lock:
            trials = self._table(study_id).trials
            if not 0 <= trial_number < len(trials):
                raise KeyError(f"the study {study_id} has no trial {trial_number}")
            return trials[trial_number]._trial_id

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials of a study, by number."""
        with self._lock:
            table = self._table(study_id)
            if states is None:
                trials = list(table.trials)
            elif any(state in states for state in TrialState if state not in _UNFINISHED):
                trials = [trial for trial in table.trials if trial.state in states]
            else:
                unfinished = (table.trials[number] for number in sorted(table.unfinished))
                trials = [trial for trial in unfinished if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _table(self, study_id: int) -> _Table:
        """What is known of a study; read once."""
        if study_id not in self._tables:
            table = _Table([])
            for trial in self._storage.get_all_trials(study_id, deepcopy=False):
                self._places[trial._trial_id] = (study_id, trial.number)
                table.put(trial)
            self._tables[study_id] = table
        return self._tables[study_id]

    def _check(self, trial_id: int, name: str, distribution: BaseDistribution) -> None:
        """Refuse a value of a trial that is over, and one from another domain than the study's.

        Raises:
            UpdateFinishedTrialError: If the trial is over.
            ValueError: If the domain is another one.
        """
        self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        place = self._places.get(trial_id)
        known = None if place is None else self._table(place[0]).domains.get(name)
        if known is not None:
            check_distribution_compatibility(known, distribution)

    def _write_on(self, trial_id: int, write: Callable[[], T]) -> T:
        """Write something about a trial, its values first."""
        if self._writer is not None and (values := self._unwritten.get(trial_id)):
            writer = self._writer
            self._write(lambda: writer.write(trial_id, values))
            self._change(trial_id, lambda trial: _put_values(trial, values))
            del self._unwritten[trial_id]
        return self._write(write)

    def _write(self, write: Callable[[], T]) -> T:
        try:
            return write()
        except BaseException:
            self.forget()
            raise

    def _change(self, trial_id: int, change: Callable[[FrozenTrial], None]) -> None:
        """Do to the remembered trial what was done to the written one."""
        if trial_id not in self._places:
            self.forget()
            return
        study_id, number = self._places[trial_id]
        if study_id in self._tables:
            trial = copy.copy(self._tables[study_id].trials[number])
            change(trial)
            self._tables[study_id].put(trial)

    def _is_numbered(self, study_id: int, trial: FrozenTrial) -> bool:
        """Whether the other storage numbered a new trial as expected: it does not when somebody else has begun one."""
        try:
            return self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number) == trial._trial_id
        except KeyError:
            return False


def _new_trial(template: FrozenTrial | None) -> FrozenTrial:
    if template is None:
        return FrozenTrial(
            number=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=_now(),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=-1,
        )
    trial = copy.deepcopy(template)
    trial.user_attrs, trial.system_attrs = _as_read(trial.user_attrs), _as_read(trial.system_attrs)
    return trial


def _put_values(trial: FrozenTrial, values: Values) -> None:
    """Give a trial some values."""
    params = {name: distribution.to_external_repr(value) for name, (value, distribution) in values.items()}
    trial.params = {**trial.params, **params}
    trial.distributions = {**trial.distributions, **{name: each for name, (_, each) in values.items()}}


def _own_copy(trial: FrozenTrial) -> FrozenTrial:
    """A trial for Optuna's `Trial`, which writes into what it was given."""
    own = copy.copy(trial)
    own.params, own.distributions = dict(trial.params), dict(trial.distributions)
    own.user_attrs, own.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    return own


def _now() -> datetime:
    """As Optuna writes times: without a zone."""
    return datetime.now()  # noqa: DTZ005


def _as_read(value: Any) -> Any:
    """A value as a storage would give it back, which keeps it as JSON."""
    return json.loads(json.dumps(value))
