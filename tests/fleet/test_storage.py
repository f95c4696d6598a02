"""A study in a real PostgreSQL: one driver, clear errors, nothing lost when the database goes away."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import psutil
import psycopg
import pytest
from optuna.storages import RDBStorage

from benchmarks.cluster.postgres import Postgres
from tests.tuner.knobs import KNOBS
from tests.tuner.traffic import OBJECTIVE, WIDE, traffic_of
from tuner.fleet.storage import (
    BadStorage,
    SharedStorage,
    StorageGone,
    patiently,
    shown,
    signs_of_life,
    storage_url,
)
from tuner.search.search import Search

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("postgres"), pytest.mark.filterwarnings("ignore:Heartbeat")]

_names = (f"study-{number}" for number in itertools.count())


@pytest.fixture
def study() -> str:
    return next(_names)


def test_a_study_lives_on_in_the_database(postgres: Postgres, study: str) -> None:
    with_one = SharedStorage.open(postgres.url(), study)
    first = optuna.create_study(study_name=study, storage=with_one.optuna)
    first.tell(first.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), 0.5)
    with_one.close()

    again = SharedStorage.open(postgres.url(), study)

    assert [trial.value for trial in optuna.load_study(study_name=study, storage=again.optuna).trials] == [0.5]
    again.close()


def test_a_study_has_one_driver_and_the_second_is_told_who_it_is(postgres: Postgres, study: str) -> None:
    first = SharedStorage.open(postgres.url(), study)

    with pytest.raises(BadStorage, match=rf"'{study}' .* driven by another trtune \(trtune .*since"):
        SharedStorage.open(postgres.url(), study)
    SharedStorage.open(postgres.url(), f"{study}-other").close()

    first.close()
    SharedStorage.open(postgres.url(), study).close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"password": "hunter2-wrong"}, "user or password is wrong"),
        ({"database": "nowhere"}, "does not exist; create it first"),
    ],
)
def test_what_is_refused_is_said_in_one_line_without_the_password(
    postgres: Postgres, study: str, change: dict[str, str], told: str
) -> None:
    with pytest.raises(BadStorage, match=told) as caught:
        SharedStorage.open(postgres.url(**change), study)

    text = str(caught.value)
    assert "\n" not in text
    assert "hunter2-wrong" not in text
    assert postgres.password not in text
    assert caught.value.__cause__ is None


def test_a_schema_of_somebody_elses_is_left_alone(postgres: Postgres, study: str) -> None:
    postgres.create("strangers")
    postgres.execute("CREATE TABLE studies (title TEXT)", "strangers")

    with pytest.raises(BadStorage, match=r"'studies' that is not Optuna's"):
        SharedStorage.open(postgres.url(database="strangers"), study)


def test_nobody_there_is_told_apart_from_a_refusal(study: str) -> None:
    with pytest.raises(StorageGone, match="does not answer"):
        SharedStorage.open("postgresql://u:secret@127.0.0.1:1/db", study)


@pytest.mark.parametrize("address", ["mysql://u@h/db", "postgresql://h", "no address", "sqlite:///x"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(BadStorage, match="postgresql://USER@HOST"):
        storage_url(address)


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    url = storage_url("postgresql://ann:s3cret@db:5432/tuning?password=s3cret&sslmode=require")

    assert shown(url) == "postgresql://ann@db:5432/tuning"


async def test_an_outage_is_waited_for_and_nothing_is_lost_or_counted_twice(study: str) -> None:
    server = Postgres()
    server.start()
    server.create()
    shared = SharedStorage.open(server.url(), study)
    one = optuna.create_study(study_name=study, storage=shared.optuna)
    under_way = one.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    server.stop()
    told: list[str] = []
    begun = asyncio.Event()

    def on_outage(text: str) -> None:
        told.append(text)
        begun.set()

    telling = asyncio.create_task(patiently(lambda: one.tell(under_way, 0.25), on_outage, retry_s=0.05))
    await begun.wait()
    server.start()
    await telling
    shared.beat(())

    assert len(told) == 1
    there = optuna.load_study(
        study_name=study, storage=RDBStorage(storage_url(server.url()).render_as_string(hide_password=False))
    ).trials
    for trials in (one.trials, there):
        assert [(trial.state.name, trial.value, trial.params) for trial in trials] == [
            ("COMPLETE", 0.25, under_way.params)
        ]
    shared.close()
    server.close()


async def test_patience_ends(study: str) -> None:
    server = Postgres()
    server.start()
    server.create()
    shared = SharedStorage.open(server.url(), study)
    server.stop()

    with pytest.raises(StorageGone, match="did not come back within"):
        await patiently(lambda: shared.beat(()), lambda _: None, patience_s=0.2, retry_s=0.05)
    shared.close()
    server.close()


async def test_a_driver_whose_study_was_taken_ends_in_good_order_and_says_so(postgres: Postgres, study: str) -> None:
    first = SharedStorage.open(postgres.url(), study)
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    second = SharedStorage.open(postgres.url(), study)
    taken = asyncio.Event()

    with pytest.raises(BadStorage, match="driven by another trtune"):
        async with signs_of_life(first, lambda: (), taken.set, period_s=0.05):
            await asyncio.wait_for(taken.wait(), 20)

    first.close()
    second.close()


async def test_signs_of_life_go_on_after_an_outage(study: str) -> None:
    failed, given = asyncio.Event(), asyncio.Event()
    with closing(Postgres()) as server:
        server.start()
        server.create()
        shared = SharedStorage.open(server.url(), study)
        one = optuna.create_study(study_name=study, storage=shared.optuna)
        under_way = one.ask()
        server.stop()
        begun: list[int] = []

        def rows() -> tuple[int, ...]:
            begun.append(under_way._trial_id)
            if len(begun) > 1:
                failed.set()
            if server.pid is not None and signs_in(server):
                given.set()
            return (under_way._trial_id,)

        async with asyncio.timeout(30), signs_of_life(shared, rows, lambda: None, period_s=0.05):
            await failed.wait()
            server.start()
            await given.wait()
        shared.close()


def test_what_an_ask_costs_the_database_does_not_grow_with_what_is_under_way(postgres: Postgres, study: str) -> None:
    shared = SharedStorage.open(postgres.url(), study)
    search = Search(KNOBS, OBJECTIVE, wanted=WIDE, seed=1, storage=shared.optuna, study_name=study)
    for _ in range(5):
        search.ask()

    few = traffic_of(search.ask)
    for _ in range(20):
        search.ask()
    many = traffic_of(search.ask)

    assert few.statements > 0
    assert many == few
    shared.close()


def test_signs_of_life_are_what_optuna_looks_for(postgres: Postgres, study: str) -> None:
    shared = SharedStorage.open(postgres.url(), study)
    one = optuna.create_study(study_name=study, storage=shared.optuna)
    alive, lost = one.ask()._trial_id, one.ask()._trial_id
    shared.beat((alive, lost))
    postgres.execute(
        f"UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour' WHERE trial_id IN ({alive}, {lost})"
    )

    rounds = traffic_of(lambda: shared.beat((alive,)))

    storage = RDBStorage(storage_url(postgres.url()).render_as_string(hide_password=False), heartbeat_interval=20)
    there = optuna.load_study(study_name=study, storage=storage)
    optuna.storages.fail_stale_trials(there)
    assert [trial.state.name for trial in there.trials] == ["RUNNING", "FAIL"]
    assert rounds.statements == 2, "one makes sure of the study, one is for all trials"
    shared.close()


def test_a_study_that_was_held_by_somebody_else_meanwhile_is_read_again(postgres: Postgres, study: str) -> None:
    first = SharedStorage.open(postgres.url(), study)
    one = optuna.create_study(study_name=study, storage=first.optuna)
    one.ask()
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    second = SharedStorage.open(postgres.url(), study)
    other = optuna.load_study(study_name=study, storage=second.optuna)
    other.tell(other.ask(), 1.0)
    second.close()

    first.hold()

    assert [trial.state.name for trial in one.trials] == ["RUNNING", "COMPLETE"]
    first.close()


BENCHMARK = """
import sys
from benchmarks.cluster.postgres import running
with running() as server:
    print(server.pid, server.folder, flush=True)
    sys.stdin.read()
"""


def test_a_benchmark_that_is_ended_leaves_no_database_behind(postgres: Postgres) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BENCHMARK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        run.terminate()
        run.wait(120)

    assert run.returncode == 128 + signal.SIGTERM
    assert not psutil.pid_exists(int(pid))
    assert not Path(folder).exists()


def signs_in(server: Postgres) -> int:
    """Trials that have ever given a sign of life."""
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("SELECT count(*) FROM trial_heartbeats").fetchone()
    assert row is not None
    return int(row[0])
