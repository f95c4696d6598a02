"""A storage in front of a storage: the same answers, and nothing read twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from sessions.recorder import Recorder
from tests.tuner.knobs import KNOBS
from tests.tuner.traffic import OBJECTIVE, WIDE, traffic_of
from tuner.search.exchange import Result
from tuner.search.mirror import MirroredStorage
from tuner.search.search import Search
from tuner.search.study import StudySearch

SPACE = {
    "batch": IntDistribution(1, 8),
    "share": FloatDistribution(0.5, 0.9),
    "policy": CategoricalDistribution(("fair", "fast")),
}


def test_what_an_ask_costs_the_session_does_not_grow_with_what_is_under_way(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    Recorder.create(path, {}).close()
    search = StudySearch(
        path,
        lambda storage, name: Search(KNOBS, OBJECTIVE, wanted=WIDE, seed=1, storage=storage, study_name=name),
    )
    begun = [search.ask() for _ in range(4)]

    few = traffic_of(search.ask)
    begun += [search.ask() for _ in range(20)]
    many = traffic_of(search.ask)

    assert few.statements > 0
    assert many == few
    first, *_, last = (traffic_of(partial(search.tell, each, Result(1.0))) for each in begun[1:] if each)
    assert first == last
    search.close()


Step = tuple[str, int, Any]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask", "enqueue", "add"]), st.integers(0, 7), st.floats(0.5, 0.9)),
        st.tuples(st.sampled_from(["tell", "fail", "limit"]), st.integers(0, 7), st.floats(-9, 9)),
        st.tuples(st.just("attribute"), st.integers(0, 7), st.sampled_from([1, "text", (1, 2), {"a": (None,)}])),
        st.tuples(st.just("forget"), st.just(0), st.none()),
    ),
    max_size=16,
)


@pytest.fixture(scope="module")
def database() -> Iterator[RDBStorage]:
    storage = RDBStorage("sqlite:///:memory:")
    yield storage
    storage.remove_session()
    storage.engine.dispose()


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_it_shows_what_the_database_holds(database: RDBStorage, steps: list[Step]) -> None:
    mirrored = MirroredStorage(database)
    study = optuna.create_study(storage=mirrored, sampler=optuna.samplers.RandomSampler(seed=0))

    for step in steps:
        with suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
            take(study, mirrored, step)

    there = optuna.load_study(storage=database, study_name=study.study_name).get_trials()
    assert [facts(trial) for trial in study.get_trials()] == [facts(trial) for trial in there]
    for states in ((TrialState.WAITING,), (TrialState.RUNNING, TrialState.COMPLETE)):
        shown = study.get_trials(states=states, deepcopy=False)
        assert [trial.number for trial in shown] == [trial.number for trial in there if trial.state in states]


def take(study: optuna.Study, mirrored: MirroredStorage, step: Step) -> None:
    """Do one thing to a study, to the trial at a place if it needs one."""
    kind, place, value = step
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    params = {"batch": 1 + place, "share": value, "policy": "fast"}
    alone: dict[str, Callable[[], object]] = {
        "ask": lambda: study.ask(SPACE).set_user_attr("kind", "search"),
        "enqueue": lambda: study.enqueue_trial(params, user_attrs={"kind": ("by", "hand")}),
        "add": lambda: study.add_trial(
            optuna.trial.create_trial(params=params, distributions=SPACE, values=[2.5], constraints={"slo": 0.5})
        ),
        "forget": mirrored.forget,
    }
    if kind in alone:
        alone[kind]()
    elif running:
        trial = optuna.Trial(study, running[place % len(running)]._trial_id)
        begun: dict[str, Callable[[], object]] = {
            "tell": lambda: study.tell(trial, value),
            "fail": lambda: study.tell(trial, state=TrialState.FAIL),
            "limit": lambda: limit(trial, value),
            "attribute": lambda: trial.set_user_attr("told", value),
        }
        begun[kind]()


def limit(trial: optuna.Trial, value: float) -> None:
    """Optuna warns of a constraint that is set twice."""
    if "slo" not in trial.constraints:
        trial.set_constraint("slo", value)


def facts(trial: optuna.trial.FrozenTrial) -> tuple[object, ...]:
    """Everything that is in a trial but its times."""
    attributes = trial.user_attrs, trial.system_attrs, trial.intermediate_values
    has_times = trial.datetime_start is not None, trial.datetime_complete is not None
    where = trial.number, trial._trial_id, trial.state
    return (*where, trial.params, trial.distributions, trial.values, *attributes, *has_times)


def test_what_was_handed_out_stays_as_it_was() -> None:
    study = optuna.create_study(storage=MirroredStorage(InMemoryStorage()))
    trial = study.ask(SPACE)
    before = study.get_trials(deepcopy=False)

    trial.set_user_attr("told", 1)
    study.tell(trial, 1.0)

    assert [(each.state, each.user_attrs) for each in before] == [(TrialState.RUNNING, {})]
    assert [(each.state, each.user_attrs) for each in study.trials] == [(TrialState.COMPLETE, {"told": 1})]


def test_values_are_written_whole_whatever_comes_between(database: RDBStorage) -> None:
    mirrored = MirroredStorage(database)
    study = optuna.create_study(storage=mirrored)
    trial = study.ask(SPACE)
    mirrored.forget()

    study.tell(trial, 1.0)

    (there,) = optuna.load_study(storage=database, study_name=study.study_name).trials
    assert there.params == study.trials[0].params == trial.params
    assert there.params.keys() == SPACE.keys()


def test_a_domain_that_is_not_the_studys_is_refused(database: RDBStorage) -> None:
    study = optuna.create_study(storage=MirroredStorage(database))
    study.tell(study.ask(SPACE), 1.0)

    with pytest.raises(ValueError, match="different distribution kind"):
        study.ask({"batch": FloatDistribution(0, 1)})


class Dropping(InMemoryStorage):
    """A storage whose connection is lost after it has written."""

    lost = False

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        done = super().set_trial_state_values(trial_id, state, values)
        if self.lost:
            raise optuna.exceptions.StorageInternalError("the connection is lost")
        return done


def test_after_an_error_it_looks_again_what_was_written() -> None:
    storage = Dropping()
    study = optuna.create_study(storage=MirroredStorage(storage))
    trial = study.ask(SPACE)
    storage.lost = True

    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.tell(trial, 1.0)

    assert [(each.state, each.value) for each in study.trials] == [(TrialState.COMPLETE, 1.0)]


def test_trials_that_somebody_else_began_come_to_light_with_the_next_one() -> None:
    storage = InMemoryStorage()
    study = optuna.create_study(storage=MirroredStorage(storage), study_name="one")
    study.ask()
    optuna.load_study(storage=storage, study_name="one").ask()

    assert study.ask().number == 2
    assert len(study.trials) == 3


def test_a_trial_that_somebody_gave_up_for_lost_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    Recorder.create(path, {}).close()
    search = StudySearch(path, lambda storage, name: Search(KNOBS, OBJECTIVE, storage=storage, study_name=name))
    proposal = search.ask()
    assert proposal is not None
    other = RDBStorage(f"sqlite:///{path}")
    other.set_trial_state_values(search.row_of(proposal), TrialState.FAIL)

    search.tell(proposal, Result(1.0))

    assert [trial.state for trial in search.search.study.trials] == [TrialState.FAIL]
    search.close()
    other.remove_session()
    other.engine.dispose()
