"""A session from a stranger can do nothing but be shown: it is refused, or read within bounds, and never a traceback."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions import opening, reader
from sessions.columns import LOAD_COLUMNS
from sessions.commands import send_command
from sessions.errors import DamagedData, NotASession, SessionError
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.requests import RequestTable
from sessions.verify import verify
from tests.sessions.request_rows import row


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small session with everything in it."""
    path = tmp_path_factory.mktemp("whole") / "run.trtune"
    recorder = Recorder.create(path, {"objective": {"metric": "ttft"}})
    recorder.set_worker("running", "x")
    load = recorder.add_source("load", "load", {"name": "x"})
    for second in range(40):
        recorder.add_sample(load, second * 1_000_000_000, [1.0] * len(LOAD_COLUMNS))
    trial = recorder.start_trial("search", {"a": 1})
    recorder.start_phase(trial, "measure")
    level = recorder.start_level(trial, "concurrency", 2)
    recorder.add_requests(level, RequestTable.from_rows([row(error=0)], errors=("cut",)))
    recorder.end_level(level, "valid", result={"ttft": {"p50": 1.0}}, notes=("n",))
    recorder.log("server", "info", "line")
    recorder.end_trial(trial, "complete", score=1.0, feasible=True)
    recorder.event("mark", "here", data={"a": 1})
    recorder.close()
    send_command(path, "mark", {"text": "x"})
    change(path, "PRAGMA journal_mode = DELETE")
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, whole: bytes) -> Path:
    path = tmp_path / "run.trtune"
    path.write_bytes(whole)
    return path


def refused_in_a_line(ask: Callable[[], object]) -> None:
    """Ask; an error must be one of ours, of one line."""
    text = ""
    try:
        ask()
    except SessionError as error:
        text = str(error)
    assert "\n" not in text
    assert "\x1b" not in text


def read_all(path: Path) -> None:
    """Everything a screen, a report or a script asks of a session."""
    with SessionReader(path) as session:
        asked: list[Callable[[], object]] = [
            session.meta, session.origin_utc_ns, session.end_ns, session.worker, session.sources, session.trials,
            session.levels, session.phases, session.events, session.logs, session.commands,
            lambda: [session.samples(source.id, 0, 1 << 60) for source in session.sources()],
            lambda: [session.spans(source.id, 0, 60_000_000_000) for source in session.sources()],
            lambda: [session.packed_samples(source.id, 0, 1 << 60) for source in session.sources()],
            lambda: [session.requests(level.id) for level in session.levels()],
        ]  # fmt: skip
        for ask in asked:
            refused_in_a_line(ask)


def change(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


@pytest.mark.parametrize("seed", range(40))
def test_a_mutated_file_is_refused_or_read_without_a_traceback(path: Path, whole: bytes, seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(whole)
    for _ in range(chance.choice((1, 4, 40))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    if seed % 5 == 0:
        del content[chance.randrange(len(content)) :]
    path.write_bytes(bytes(content))

    refused_in_a_line(lambda: read_all(path))
    refused_in_a_line(lambda: verify(path))


VALUES = ("NULL", "-1", "9223372036854775807", "1e308", "'text'", "x'ff00'", "'[[[[{}]]]]'", "char(27) || '[2J'")
TABLES = (
    "trial",
    "level",
    "phase",
    "event",
    "command",
    "worker",
    "source",
    "sample",
    "rollup",
    "request_block",
    "log",
    "meta",
)


@pytest.mark.parametrize("table", TABLES)
def test_any_value_in_any_column_is_refused_or_shown(tmp_path: Path, whole: bytes, table: str) -> None:
    looked = sqlite3.connect(":memory:")
    looked.deserialize(whole)
    columns = [name for (name,) in looked.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    for column in columns:
        for value in VALUES:
            path = tmp_path / "run.trtune"
            path.write_bytes(whole)
            connection = sqlite3.connect(path)
            try:
                connection.execute("PRAGMA ignore_check_constraints = ON")
                connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {value}")
                connection.commit()
            except sqlite3.Error:
                continue  # SQLite itself refuses it
            finally:
                connection.close()
            read_all(path)
            verify(path)


@pytest.mark.parametrize(
    "script",
    [
        "ALTER TABLE trial RENAME TO t2; CREATE VIEW trial AS SELECT * FROM t2",
        "CREATE TRIGGER t AFTER INSERT ON command BEGIN DELETE FROM trial; END",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
        "DROP TABLE level; CREATE TABLE level (id INTEGER PRIMARY KEY, trial AS (zeroblob(1000000000)))",
        "DROP TABLE event",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = -3",
    ],
)
def test_a_file_that_is_not_made_as_a_session_is_refused_for_reading_and_writing(path: Path, script: str) -> None:
    change(path, script)

    with pytest.raises(NotASession, match="not"):
        SessionReader(path)
    with pytest.raises(NotASession, match="not"):
        send_command(path, "stop")


def test_a_file_with_thousands_of_tables_is_refused(path: Path) -> None:
    change(path, "".join(f"CREATE TABLE x{number} (a);" for number in range(300)))

    with pytest.raises(NotASession, match="more than 200"):
        SessionReader(path)


def test_json_that_is_nested_without_end_is_refused(path: Path) -> None:
    deep = "[" * 1000 + "]" * 1000
    change(path, f"INSERT INTO meta VALUES ('plan', '{{\"a\": {deep}}}'); UPDATE event SET data = '{{\"a\": {deep}}}'")

    with SessionReader(path) as session:
        for ask in (session.meta, session.events):
            with pytest.raises(DamagedData, match="not made as a session's is"):
                ask()


def test_an_endless_text_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(path, "UPDATE trial SET params = '{\"a\": \"' || hex(zeroblob(3000000)) || '\"}'")
    monkeypatch.setitem(opening._LIMITS, sqlite3.SQLITE_LIMIT_LENGTH, 1 << 20)

    with SessionReader(path) as session, pytest.raises(DamagedData):
        session.trials()


def test_a_reader_gives_up_on_a_query_that_takes_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(
        path,
        "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        " INSERT INTO trial (number, kind, state, params, start_ns) SELECT i, 'x', 'x', '{}', 99999 FROM n",
    )
    monkeypatch.setattr(reader, "STEP_LIMIT_S", -1.0)
    monkeypatch.setattr(reader, "_STEPS_BETWEEN_LOOKS", 1000)

    with pytest.raises(DamagedData, match="took too long"), SessionReader(path) as session:
        session.trials(at_ns=5)


def test_more_rows_than_a_session_has_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(path, "INSERT INTO event (t_ns, kind, text) VALUES (1, 'a', 'b'), (2, 'a', 'b')")
    monkeypatch.setattr(reader, "MAX_ROWS", 2)

    with SessionReader(path) as session, pytest.raises(DamagedData, match="more rows"):
        session.events()


def test_the_requests_of_a_level_take_bounded_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_LEVEL_BYTES", 10)

    with SessionReader(path) as session, pytest.raises(DamagedData, match="more than"):
        session.requests(1)


def test_contradictions_are_shown_as_they_are_and_named(path: Path) -> None:
    change(
        path,
        "UPDATE trial SET end_ns = start_ns - 1, score = 1e308; UPDATE level SET window_start_ns = 9, window_end_ns = 3",
    )

    with SessionReader(path) as session:
        (trial,) = session.trials()
        assert trial.end_ns == trial.start_ns - 1
        assert trial.score == 1e308
    told = " ".join(map(str, verify(path).problems))
    assert "trial 0: ends before it starts" in told
    assert "level 1: has a window that closes before it opens" in told


def test_nothing_is_followed_and_nothing_is_written_beside_a_finished_session(path: Path) -> None:
    before = (path.read_bytes(), sorted(path.parent.iterdir()))

    read_all(path)

    assert (path.read_bytes(), sorted(path.parent.iterdir())) == before
    with SessionReader(path) as session, pytest.raises(DamagedData):
        list(session._rows("ATTACH DATABASE '/tmp/other' AS other"))


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("DELETE FROM meta WHERE key = 'origin_utc_ns'; DELETE FROM worker", "does not say when it began"),
        ("UPDATE meta SET value = 'soon' WHERE key = 'origin_utc_ns'", "text that is not JSON"),
        ("UPDATE event SET t_ns = 'soon'", "'soon' where a whole number belongs"),
        ("UPDATE worker SET heartbeat_utc_ns = 'soon'", "'soon' where a whole number belongs"),
    ],
)
def test_a_session_without_its_times_cannot_be_gone_on_with_and_is_let_go_of(
    path: Path, script: str, told: str
) -> None:
    change(path, script)

    with pytest.raises(DamagedData, match=told):
        Recorder.resume(path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["run.trtune"]


def test_a_session_that_lost_its_begin_goes_on_by_its_last_sign_of_life(path: Path) -> None:
    with SessionReader(path) as session:
        begun_ns = session.origin_utc_ns()
    change(path, "DELETE FROM meta WHERE key = 'origin_utc_ns'")

    recorder = Recorder.resume(path)
    recorder.close()

    assert abs(recorder.clock.origin_utc_ns - begun_ns) < 1_000_000_000


def test_a_command_that_cannot_be_read_is_refused_and_the_others_are_taken(path: Path) -> None:
    change(path, "INSERT INTO command (utc_ns, kind, args) VALUES (1, 'mark', 'no json'), (2, 'enqueue', '{}')")
    recorder = Recorder.resume(path)

    taken = [command.kind for command in recorder.commands()]
    recorder.close()

    assert taken == ["mark", "enqueue"]
    told = sqlite3.connect(path).execute("SELECT state, reply FROM command WHERE utc_ns = 1").fetchone()
    assert told[0] == "refused"
    assert "not JSON" in told[1]


def test_a_file_left_half_written_in_rollback_mode_is_put_right_in_a_copy(path: Path) -> None:
    program = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_size = 1'); c.execute('PRAGMA cache_spill = 1'); c.execute('BEGIN IMMEDIATE');"
        'c.execute("UPDATE trial SET score = 99");'
        "c.executemany('INSERT INTO log (t_ns, stream, level, text) VALUES (1, ?, ?, ?)', [('a', 'b', 'x' * 3000)] * 500);"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, path], check=False)
    torn = path.read_bytes()
    assert path.with_name(f"{path.name}-journal").stat().st_size

    with SessionReader(path) as session:
        assert [trial.score for trial in session.trials()] == [1.0]
        assert len(session.logs()) == 1
    assert path.read_bytes() == torn
    Recorder.resume(path).close()
    assert not path.with_name(f"{path.name}-journal").exists()
