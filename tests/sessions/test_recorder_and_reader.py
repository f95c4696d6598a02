"""A session: what the recorder writes is what every reader sees, while it grows and afterwards."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sqlite3
import time
from itertools import pairwise
from pathlib import Path

import pytest

from sessions.columns import COLUMNS
from sessions.commands import send_command
from sessions.errors import NewerSession, NotASession, SessionBusy, SessionError, SessionExists
from sessions.holding import is_written, settle
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.records import FailureRecord
from sessions.requests import RequestTable
from tests.sessions.request_rows import row

PLAIN, IN_WAL_MODE = b"\x01\x01", b"\x02\x02"
"""Bytes 18 and 19 of an SQLite file."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.trtune"


def test_a_reader_sees_a_session_while_it_grows(path: Path) -> None:
    recorder = Recorder.create(path, {"kind": "tune"})
    gpu = recorder.add_source("gpu", "gpu0", {"name": "H100"})
    with SessionReader(path) as reader:
        assert reader.meta()["kind"] == "tune"
        reader.changed()
        number = recorder.start_trial("baseline", {"max_batch_size": 8})
        recorder.add_sample(gpu, 5, [math.nan] * (len(COLUMNS["gpu"]) - 1) + [3.5])
        recorder.flush()

        assert reader.changed()
        assert not reader.changed()
        assert [trial.state for trial in reader.trials()] == ["running"]
        recorder.end_trial(number, "complete", score=42.0, feasible=True, result={"ttft": {"p50": 10.0}})
        assert reader.trials()[0].score == 42.0
        sample = reader.last_sample(gpu)
        assert sample is not None
        assert (sample.t_ns, sample.values[-1]) == (5, 3.5)
        assert math.isnan(sample.values[0])
    recorder.close()


def test_a_trial_as_it_stood_earlier_is_still_running(path: Path) -> None:
    recorder = Recorder.create(path, {})
    number = recorder.start_trial("search", {})
    during_ns = recorder.clock.now()
    failure = FailureRecord("out_of_memory", "no memory for the KV cache", "Executor creation failed", ("x",))
    recorder.end_trial(number, "infeasible", failure=failure)
    recorder.close()

    with SessionReader(path) as reader:
        then, now = reader.trials(at_ns=during_ns)[0], reader.trials()[0]
        assert (then.state, then.failure, then.end_ns) == ("running", None, None)
        assert (now.state, now.failure) == ("infeasible", failure)
        assert reader.trials(at_ns=-1) == ()


def test_phases_follow_each_other_without_gaps(path: Path) -> None:
    recorder = Recorder.create(path, {})
    number = recorder.start_trial("search", {})
    level = recorder.start_level(number, "concurrency", 8)
    for name in ("prepare", "start", "measure"):
        recorder.start_phase(number, name, level if name == "measure" else None)
    recorder.end_trial(number, "complete")
    recorder.close()

    with SessionReader(path) as reader:
        phases = reader.phases(number)
    assert [phase.name for phase in phases] == ["prepare", "start", "measure"]
    assert [phase.level for phase in phases] == [None, None, level]
    assert all(earlier.end_ns == later.start_ns for earlier, later in pairwise(phases))
    assert phases[-1].end_ns is not None


def test_requests_of_a_level_come_back_whole(path: Path) -> None:
    recorder = Recorder.create(path, {})
    level = recorder.start_level(recorder.start_trial("bench", {}), "concurrency", 2)
    recorder.add_requests(level, RequestTable.from_rows([row(index=0), row(index=1)]))
    recorder.add_requests(level, RequestTable.from_rows([row(index=2, error=0)], errors=("cut",)))
    recorder.close()

    with SessionReader(path) as reader:
        table = reader.requests(level)
    assert list(table.index) == [0, 1, 2]
    assert table.errors == ("cut",)


def test_commands_reach_the_worker_and_their_answer_reaches_the_viewer(path: Path) -> None:
    recorder = Recorder.create(path, {})
    send_command(path, "mark", {"text": "here"})

    (command,) = recorder.commands()
    assert (command.kind, command.args) == ("mark", {"text": "here"})
    assert recorder.commands() == []
    recorder.answer(command, "done", "marked")
    recorder.close()

    with SessionReader(path) as reader:
        assert [(each.state, each.reply) for each in reader.commands()] == [("done", "marked")]
        assert [event.kind for event in reader.events()] == ["command"]


def test_what_was_asked_of_a_worker_that_was_gone_does_not_stop_the_next_one(path: Path) -> None:
    recorder = Recorder.create(path, {})
    recorder.set_worker("running", "trial 1 of 3")
    recorder.close()
    for kind in ("stop", "pause", "enqueue"):
        send_command(path, kind, {"params": {}})

    recorder = Recorder.resume(path)
    taken = [command.kind for command in recorder.commands()]
    recorder.close()

    assert taken == ["enqueue"]
    with SessionReader(path) as reader:
        told = [(command.state, command.reply) for command in reader.commands() if command.kind != "enqueue"]
    assert told == [("refused", "the worker had ended")] * 2


def test_what_was_asked_before_the_first_worker_began_is_for_it(path: Path) -> None:
    Recorder.create(path, {}).close()
    send_command(path, "stop")

    recorder = Recorder.resume(path)
    taken = [command.kind for command in recorder.commands()]
    recorder.close()

    assert taken == ["stop"]


def test_an_unknown_command_is_refused_before_it_is_written(path: Path) -> None:
    Recorder.create(path, {}).close()

    with pytest.raises(ValueError, match="unknown"):
        send_command(path, "explode")


def test_hostile_log_text_is_made_harmless(path: Path) -> None:
    recorder = Recorder.create(path, {})
    recorder.log("server", "info", "\x1b[31mred\x1b]0;title\x07 \u202ereversed\x00 tab\tend\r\n")
    recorder.close()

    with SessionReader(path) as reader:
        assert reader.logs()[0].text == "red \ufffdreversed\ufffd tab end"


def test_a_taken_path_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("precious")

    with pytest.raises(SessionExists, match="--resume"):
        Recorder.create(path, {})
    assert path.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\x00 but broken" * 100])
def test_another_kind_of_file_is_no_session(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(NotASession, match="not a trtune session"):
        SessionReader(path)


def test_a_missing_file_is_no_session(path: Path) -> None:
    with pytest.raises(NotASession, match="no such session"):
        SessionReader(path)


def test_another_database_is_no_session(path: Path) -> None:
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()

    with pytest.raises(NotASession):
        SessionReader(path)


def test_a_newer_session_asks_for_a_newer_trtune(path: Path) -> None:
    Recorder.create(path, {}).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(NewerSession, match="update trtune"):
        SessionReader(path)


def test_a_second_writer_is_refused(path: Path) -> None:
    recorder = Recorder.create(path, {})

    assert is_written(path)
    with pytest.raises(SessionBusy):
        Recorder.resume(path)
    recorder.close()
    assert not is_written(path)


def test_resuming_ends_what_was_cut_off_and_time_goes_on(path: Path) -> None:
    first = Recorder.create(path, {})
    number = first.start_trial("search", {})
    first.start_phase(number, "start")
    first.set_worker("running", "trial 1")
    cut_off_ns = first.clock.now()
    first.close()

    second = Recorder.resume(path)
    later_ns = second.clock.now()
    second.close()

    with SessionReader(path) as reader:
        assert reader.trials()[0].state == "interrupted"
        assert reader.phases()[0].end_ns is not None
    assert later_ns > cut_off_ns


def test_time_never_goes_back_when_the_wall_clock_did(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Recorder.create(path, {})
    first.event("mark", "before")
    last_ns = first.clock.now()
    first.close()
    monkeypatch.setattr(time, "time_ns", lambda: 0)

    second = Recorder.resume(path)

    assert second.clock.now() >= last_ns - 10_000_000
    second.close()


def _write_until_killed(path: Path, begun: multiprocessing.synchronize.Event) -> None:
    recorder = Recorder.create(path, {})
    number = recorder.start_trial("search", {})
    recorder.end_trial(number, "complete", score=1.0, feasible=True)
    begun.set()
    while True:
        recorder.log("worker", "info", "alive")
        recorder.flush()


def test_a_killed_writer_loses_no_finished_trial(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=_write_until_killed, args=(path, begun))
    process.start()
    assert begun.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    with SessionReader(path) as reader:
        assert [trial.score for trial in reader.trials()] == [1.0]
    assert not is_written(path)
    Recorder.resume(path).close()


def test_a_closed_session_is_one_file_and_can_be_read_from_a_read_only_folder(path: Path) -> None:
    recorder = Recorder.create(path, {"kind": "tune"})
    recorder.close()

    assert [each.name for each in path.parent.iterdir()] == [path.name]
    path.chmod(0o444)
    with SessionReader(path) as reader:
        assert reader.meta()["kind"] == "tune"


def test_a_viewer_cannot_change_a_session(path: Path) -> None:
    Recorder.create(path, {}).close()

    with SessionReader(path) as reader, pytest.raises(SessionError):
        list(reader._rows("DELETE FROM meta"))


HOSTILE_CHANGES = (
    "UPDATE trial SET params = '[1, 2]', result = '{\"ttft\": 3}', score = 'high', launch = '7'",
    "UPDATE trial SET kind = char(27) || '[2Jx', state = char(27) || ']0;t' || char(7)",
    "UPDATE trial SET failure = '[]', effective = '{\"a\": {\"b\": 1}}'",
    "UPDATE level SET result = '{\"ttft\": {\"p50\": \"fast\"}}', notes = '{}', value = 'many'",
    "UPDATE event SET data = '3'",
    "UPDATE worker SET text = char(27) || '[31mred', state = 'x'",
)


@pytest.mark.parametrize("change", HOSTILE_CHANGES)
def test_values_of_the_wrong_kind_are_left_out_and_nothing_escapes(path: Path, change: str) -> None:
    recorder = Recorder.create(path, {})
    recorder.set_worker("running", "x")
    number = recorder.start_trial("search", {"a": 1})
    level = recorder.start_level(number, "concurrency", 2)
    recorder.end_level(level, "valid", result={"ttft": {"p50": 1.0}})
    recorder.end_trial(number, "complete", score=1.0, feasible=True)
    recorder.event("mark", "here")
    recorder.close()
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.commit()
    connection.close()

    with SessionReader(path) as reader:
        (trial,) = reader.trials()
        (record,) = reader.levels()
        shown = repr((trial, record, reader.events(), reader.worker(), reader.commands()))

    assert "\\x1b" not in shown
    assert isinstance(trial.params, dict)
    assert trial.score is None or isinstance(trial.score, float)
    assert all(isinstance(value, float) for stats in record.result.values() for value in stats.values())


def test_a_value_that_is_no_json_is_called_damaged(path: Path) -> None:
    recorder = Recorder.create(path, {})
    recorder.start_trial("search", {})
    recorder.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE trial SET params = 'not json'")
    connection.commit()
    connection.close()

    with SessionReader(path) as reader, pytest.raises(SessionError, match="not JSON"):
        reader.trials()


def test_a_session_that_was_looked_on_to_its_end_becomes_one_plain_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions.holding.SETTLE_WAIT_S", 0)
    monkeypatch.setattr("sessions.holding.FOLD_WAIT_MS", 0)
    recorder = Recorder.create(path, {"kind": "bench"})
    with SessionReader(path) as reader:
        settle(path)  # it is still being written
        recorder.start_trial("bench", {})
        recorder.close()
        settle(path)  # somebody else still looks on
        assert len(reader.trials()) == 1
        assert path.read_bytes()[18:20] == IN_WAL_MODE

    settle(path)

    assert path.read_bytes()[18:20] == PLAIN
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with SessionReader(path) as reader:
        assert len(reader.trials()) == 1
