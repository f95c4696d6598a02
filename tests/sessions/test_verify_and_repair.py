"""What is wrong in a session is found and named; what can be read of it is saved."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from sessions.columns import LOAD_COLUMNS
from sessions.errors import NotASession, SessionExists
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.repair import repair
from sessions.requests import RequestTable
from sessions.verify import verify
from tests.sessions.request_rows import row

NS = 1_000_000_000
TRIALS = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A session with everything in it."""
    path = tmp_path / "run.trtune"
    recorder = Recorder.create(path, {"objective": {"metric": "ttft"}})
    recorder.set_worker("running", "measuring")
    load = recorder.add_source("load", "load", {})
    for second in range(600):
        recorder.add_sample(load, second * NS, [float(second)] * len(LOAD_COLUMNS))
    for number in range(TRIALS):
        recorder.start_trial("search", {"a": number})
        recorder.start_phase(number, "measure")
        level = recorder.start_level(number, "concurrency", 8)
        rows = [row(index=index) for index in range(50)]
        recorder.add_requests(level, RequestTable.from_rows(rows))
        recorder.end_level(level, "valid", result={"ttft": {"p50": 1.0}})
        recorder.log("server", "info", f"line {number} " + "x" * 500)
        recorder.end_trial(number, "complete", score=float(number), feasible=True)
    recorder.set_worker("done", "over")
    recorder.close()
    return path


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_whole_session_is_sound(path: Path) -> None:
    found = verify(path)
    assert found.sound, found.problems
    assert (found.rows["trial"], found.rows["sample"], found.version) == (TRIALS, 600, 2)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE trial SET result = 'no json' WHERE number = 3", "trial 3: the session holds text that is not JSON"),
        ("UPDATE trial SET end_ns = start_ns - 5 WHERE number = 2", "trial 2: ends before it starts"),
        ("UPDATE trial SET end_ns = NULL WHERE number = 2", "trial 2: is over and has no end"),
        (
            "UPDATE trial SET start_ns = 'soon' WHERE number = 1",
            "trial 1: the session holds 'soon' where a whole number belongs",
        ),
        ("UPDATE trial SET state = 'great' WHERE number = 1", "trial 1: is in a state that there is not"),
        ("UPDATE level SET trial = 99 WHERE id = 1", "level 1: belongs to a trial that is not there"),
        (
            "UPDATE level SET window_start_ns = 0, window_end_ns = 1 WHERE id = 2",
            "level 2: has a window outside itself",
        ),
        ("UPDATE request_block SET requests = 7 WHERE id = 1", "request_block 1: says 7 requests"),
        ("UPDATE request_block SET data = x'00' WHERE id = 2", "request_block 2: a data block cannot be read"),
        ("UPDATE sample SET data = x'00' WHERE t_ns = 5000000000", "source 1: 1 samples are damaged"),
        ("UPDATE rollup SET data = x'00' WHERE place = 1", "source 1: 2 spans are damaged"),
        ("UPDATE source SET format = '<P'", "sample: the session describes its samples by '<P'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(path: Path, statement: str, told: str) -> None:
    change(path, statement)

    assert any(str(problem).startswith(told) for problem in verify(path).problems), verify(path).problems


def test_a_flipped_bit_in_a_block_is_found(path: Path) -> None:
    connection = sqlite3.connect(path)
    (data,) = connection.execute("SELECT data FROM request_block WHERE id = 1").fetchone()
    connection.close()
    content = path.read_bytes()
    place = content.index(data[-40:]) + 20
    path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])

    assert not verify(path).sound


def test_repair_loses_only_what_is_damaged(path: Path, tmp_path: Path) -> None:
    change(path, "UPDATE trial SET result = 'no json' WHERE number = 3")
    change(path, "UPDATE request_block SET data = x'00' WHERE id = 2")
    change(path, "UPDATE sample SET data = x'00' WHERE t_ns = 5000000000")
    into = tmp_path / "saved.trtune"

    saved = repair(path, into)

    assert (saved.lost, saved.emptied) == ({"request_block": 1, "sample": 1}, {"trial.result": 1})
    assert verify(into).sound
    with SessionReader(into) as reader:
        assert [trial.score for trial in reader.trials()] == list(map(float, range(TRIALS)))
        assert [len(reader.requests(level.id)) for level in reader.levels()] == [50, 0, 50, 50, 50, 50]
        assert reader.spans(1, 0, 600 * NS)


def test_repair_of_an_older_session_brings_it_up_to_date_with_its_study(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "data" / "demo.trtune"
    into = tmp_path / "saved.trtune"

    repair(old, into)

    assert verify(into).version == 2
    assert verify(into).sound
    with SessionReader(old) as before, SessionReader(into) as after:
        assert after.trials() == before.trials()
        assert len(after.requests(1)) == len(before.requests(1))
    tables = (
        "SELECT count(*) FROM trials",
        "SELECT count(*) FROM trial_params",
        "SELECT version_num FROM alembic_version",
    )
    for query in tables:
        assert sqlite3.connect(into).execute(query).fetchone() == sqlite3.connect(old).execute(query).fetchone()


@pytest.mark.parametrize("lost", ["DELETE FROM meta WHERE key = ", "UPDATE meta SET value = '\"soon\"' WHERE key = "])
def test_repair_finds_the_begin_of_a_session_and_leaves_out_tables_that_sqlite_cannot_make(
    path: Path, tmp_path: Path, lost: str
) -> None:
    with SessionReader(path) as reader:
        begun_ns = reader.origin_utc_ns()
    connection = sqlite3.connect(path)
    connection.create_function("unknown_here", 1, lambda value: 1, deterministic=True)
    connection.execute("CREATE TABLE studies (a INTEGER, CHECK (unknown_here(a)))")
    connection.execute(f"{lost}'origin_utc_ns'")
    connection.commit()
    connection.close()

    saved = repair(path, tmp_path / "saved.trtune")

    assert saved.broken == ["studies"]
    with SessionReader(tmp_path / "saved.trtune") as reader:
        assert abs(reader.origin_utc_ns() - begun_ns) < NS
        assert len(reader.trials()) == TRIALS


@pytest.mark.parametrize("seed", range(4))
def test_torn_pages_cost_only_what_they_held(path: Path, tmp_path: Path, seed: int) -> None:
    content = bytearray(path.read_bytes())
    page = random.Random(seed).randrange(20, len(content) // 4096)
    content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    path.write_bytes(bytes(content))
    into = tmp_path / "saved.trtune"

    assert not verify(path).sound
    repair(path, into)

    assert verify(into).sound
    with SessionReader(into) as reader:
        assert reader.trials() or reader.samples(1, 0, 600 * NS)


def test_repair_never_overwrites(path: Path, tmp_path: Path) -> None:
    with pytest.raises(SessionExists):
        repair(path, path)
    (tmp_path / "other").write_text("no session")
    with pytest.raises(NotASession):
        repair(tmp_path / "other", tmp_path / "new")
    assert not (tmp_path / "new").exists()
