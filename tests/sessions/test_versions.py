"""Sessions of every format open for ever; a worker that goes on with an older one brings it up to date."""

from __future__ import annotations

import math
import shutil
import sqlite3
from pathlib import Path

import pytest

from sessions.columns import LOAD_COLUMNS
from sessions.errors import DamagedData
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.schema import SCHEMA_VERSION

DATA = Path(__file__).parents[1] / "data"
FIXTURES = {1: DATA / "demo.trtune"}
"""A recorded session of each older format."""


def test_there_is_a_fixture_of_every_older_format() -> None:
    for version, path in FIXTURES.items():
        assert sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True).execute("PRAGMA user_version").fetchone() == (
            version,
        )
    assert sorted(FIXTURES) == list(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("version", sorted(FIXTURES))
def test_an_older_session_is_shown_without_being_changed(tmp_path: Path, version: int) -> None:
    path = Path(shutil.copy(FIXTURES[version], tmp_path / "old.trtune"))
    before = path.read_bytes()

    with SessionReader(path) as reader:
        trials = reader.trials()
        source = reader.sources("gpu")[0].id
        assert trials
        assert any(trial.score is not None for trial in trials)
        assert all(len(reader.requests(level.id)) for level in reader.levels() if level.state == "valid")
        assert reader.spans(source, 0, reader.end_ns())
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", sorted(FIXTURES))
def test_a_worker_brings_an_older_session_up_to_date_and_loses_nothing(tmp_path: Path, version: int) -> None:
    path = Path(shutil.copy(FIXTURES[version], tmp_path / "old.trtune"))
    with SessionReader(path) as reader:
        before = (reader.trials(), reader.levels(), reader.events(), reader.meta())

    recorder = Recorder.resume(path)
    recorder.add_sample(recorder.add_source("load", "load", {}), recorder.clock.now(), [1.0] * len(LOAD_COLUMNS))
    recorder.close()

    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    with SessionReader(path) as reader:
        assert (reader.trials(), reader.levels(), reader.events(), reader.meta()) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("columns = 'no json'", "not JSON"),
        ("format = '<999999999s'", "no format of ours"),
        ("columns = '5'", "no format"),
    ],
)
def test_a_source_that_a_stranger_described_is_not_gone_on_with(tmp_path: Path, change: str, told: str) -> None:
    first = Recorder.create(tmp_path / "run.trtune", {})
    first.add_source("load", "load", {})
    first.close()
    connection = sqlite3.connect(tmp_path / "run.trtune")
    connection.execute(f"UPDATE source SET {change}")
    connection.commit()
    connection.close()

    second = Recorder.resume(tmp_path / "run.trtune")
    with pytest.raises(DamagedData, match=told):
        second.add_source("load", "load", {})
    second.close()


def test_a_session_whose_samples_had_other_columns_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    first = Recorder.create(path, {})
    source = first.add_source("load", "load", {})
    first.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE source SET format = '<fd', columns = '[\"rate\", \"gone\"]'")
    connection.commit()
    connection.close()

    second = Recorder.resume(path)
    assert second.add_source("load", "load", {}) == source
    second.add_sample(source, 1, [float(place) for place in range(len(LOAD_COLUMNS))])
    second.close()

    with SessionReader(path) as reader:
        (sample,) = reader.samples(source, 0, 10)
    rate = [column.name for column in LOAD_COLUMNS].index("rate")
    assert (sample.values[0], math.isnan(sample.values[1])) == (rate, True)
