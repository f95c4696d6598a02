"""A disk that fills up: what is left out, in which order, what is told, and that no trial is ever lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from sessions import opening, writing
from sessions.columns import LOAD_COLUMNS
from sessions.errors import SessionUnwritable
from sessions.holding import RESERVE_BYTES
from sessions.packing import pack
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.requests import RequestTable
from sessions.shortage import MIB, NO_ARRIVALS, NO_REQUESTS, ONLY_TRIALS, STEPS, step_for
from tests.sessions.request_rows import row

DISK_BYTES = 160 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 160 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(writing, "FULL_REST_S", 0.0)
    monkeypatch.setattr(writing, "REQUESTS_WAIT_S", 0.0)


class Filler:
    """Takes space on the disk until so much is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = count()

    def leave(self, free_bytes: int) -> None:
        told = os.statvfs(self._folder)
        with (self._folder / f"filler{next(self._names)}").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(told.f_bavail * told.f_frsize - free_bytes, 1))

    def remove(self) -> None:
        for path in self._folder.glob("filler*"):
            path.unlink()


def warnings(path: Path) -> list[str]:
    with SessionReader(path) as reader:
        return [event.text for event in reader.events() if event.kind == "warning"]


def test_recording_leaves_out_step_by_step_and_comes_back(disk: Path) -> None:
    path = disk / "run.trtune"
    filler = Filler(disk)
    recorder = Recorder.create(path, {})
    recorder.set_worker("running", "measuring")
    load = recorder.add_source("load", "load", {})
    number = recorder.start_trial("search", {})
    levels = []
    for free in (80 * MIB, *(step.below_bytes - MIB for step in STEPS[1:])):
        if free < 80 * MIB:
            filler.leave(free)
        level = recorder.start_level(number, "concurrency", 2)
        levels.append(level)
        recorder.add_requests(level, RequestTable.from_rows([row(index=0)]))
        recorder.add_sample(load, recorder.clock.now(), [1.0] * len(LOAD_COLUMNS))
        recorder.end_level(level, "valid", result={"ttft": {"p50": 1.0}})
    with SessionReader(path) as reader:
        tables = [reader.requests(level) for level in levels]
        assert [(len(table), table.chunk_us.size > 0) for table in tables] == [
            (1, True),
            (1, False),
            (0, False),
            (0, False),
        ]
        assert len(reader.samples(load, 0, recorder.clock.now())) == 3
        assert all(level.result for level in reader.levels())
        status = reader.worker()
    assert status is not None
    assert "the disk is nearly full" in status.text
    assert [told.partition(": ")[2] for told in warnings(path)] == [step.text for step in STEPS[1:]]

    filler.remove()
    recorder.end_trial(number, "complete", score=1.0)
    recorder.close()
    assert "everything is recorded" in warnings(path)[-1]
    with SessionReader(path) as reader:
        left_out = reader.meta()["recording"]["left_out"]
    assert left_out == {"arrivals": 3, "requests": 2, "samples": 1, "logs": 0}


def test_on_a_disk_filled_to_the_last_byte_trials_are_recorded_from_the_reserve(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = disk / "run.trtune"
    recorder = Recorder.create(path, {})
    load = recorder.add_source("load", "load", {})
    monkeypatch.setattr(writing, "LOOK_EVERY_S", 1e9)  # it fills faster than we look
    Filler(disk).leave(0)
    for number in range(500):
        recorder.add_sample(load, recorder.clock.now(), [1.0] * len(LOAD_COLUMNS))
        recorder.log("server", "info", "x" * 3000)
        recorder.beat("running")
        recorder.end_trial(recorder.start_trial("search", {"a": number}), "complete", score=float(number))
    recorder.close()

    with SessionReader(path) as reader:
        assert [trial.score for trial in reader.trials()] == list(map(float, range(500)))
    assert any("only" in text or "no longer" in text for text in warnings(path))


def test_when_not_even_a_trial_can_be_written_the_recorder_says_so_and_the_file_is_whole(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = disk / "run.trtune"
    filler = Filler(disk)
    recorder = Recorder.create(path, {})
    recorder.end_trial(recorder.start_trial("search", {}), "complete", score=1.0)
    (path.with_name(path.name + "-worker")).write_bytes(b"")  # nothing was put by
    monkeypatch.setattr(writing, "LOOK_EVERY_S", 1e9)
    filler.leave(0)

    def record_without_end() -> None:
        for number in range(10_000):
            recorder.end_trial(recorder.start_trial("search", {"a": "x" * 4000}), "complete", score=float(number))

    with pytest.raises(SessionUnwritable, match="make room, then go on with --resume"):
        record_without_end()
    recorder.close()
    filler.remove()

    with SessionReader(path) as reader:
        assert reader.trials()[0].score == 1.0
    Recorder.resume(path).close()


def test_a_pack_that_does_not_fit_says_so_and_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "run.trtune", {"noise": os.urandom(2 * MIB).hex()})
    recorder.close()
    Filler(disk).leave(3 * MIB)
    before = sorted(disk.iterdir())

    with pytest.raises(OSError, match=r"^\S+pack.xz cannot be written: \S+ has no room for a copy of \S+run.trtune$"):
        pack(tmp_path / "run.trtune", disk / "pack.xz")

    assert sorted(disk.iterdir()) == before


def test_a_file_that_another_program_keeps_locked_is_not_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_S", 0.05)
    recorder = Recorder.create(tmp_path / "run.trtune", {})
    other = sqlite3.connect(tmp_path / "run.trtune", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(SessionUnwritable, match="end the program that keeps it locked, then go on with --resume"):
        recorder.start_trial("search", {})
    other.close()
    recorder.close()


LIMITED = """
import resource, sys
from pathlib import Path
from sessions.errors import SessionUnwritable
from sessions.recorder import Recorder
recorder = Recorder.create(Path(sys.argv[1]), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, resource.RLIM_INFINITY))
try:
    for number in range(100_000):
        for _ in range(20):
            recorder.log("server", "info", "x" * 3000)
        recorder.flush()
        recorder.end_trial(recorder.start_trial("search", {}), "complete", score=float(number))
        print(number)
except SessionUnwritable as error:
    print(error, file=sys.stderr)
recorder.close()
"""


def test_a_file_that_may_not_grow_keeps_every_trial_that_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.trtune"
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "cannot be written any more" in done.stderr
    assert "Traceback" not in done.stderr
    with SessionReader(path) as reader:
        scores = [trial.score for trial in reader.trials() if trial.score is not None]
    recorded = [float(number) for number in done.stdout.split()]
    assert len(recorded) > 10
    assert scores[: len(recorded)] == recorded


def test_the_steps_follow_free_space_and_go_back_only_with_room_to_spare() -> None:
    assert [step_for(free * MIB, 0) for free in (100, 47, 31, 15, 0)] == [
        0,
        NO_ARRIVALS,
        NO_REQUESTS,
        ONLY_TRIALS,
        ONLY_TRIALS,
    ]
    assert step_for(20 * MIB, ONLY_TRIALS) == ONLY_TRIALS
    assert step_for(40 * MIB, ONLY_TRIALS) == NO_REQUESTS
    assert step_for(200 * MIB, ONLY_TRIALS) == 0


def test_the_reserve_is_there_while_a_worker_writes(tmp_path: Path) -> None:
    recorder = Recorder.create(tmp_path / "run.trtune", {})
    assert (tmp_path / "run.trtune-worker").stat().st_blocks * 512 >= RESERVE_BYTES
    recorder.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run.trtune"]


def test_large_tables_are_cut_into_blocks_of_bounded_size() -> None:
    table = RequestTable.from_rows([row(index=index) for index in range(100)])
    parts = list(table.cut(30))
    assert max(part.chunk_us.size for part in parts) <= 33
    assert np.array_equal(RequestTable.concat(parts).chunk_us, table.chunk_us)


def test_any_number_of_error_texts_fits_a_block() -> None:
    errors = tuple(f"{number} " + "é" * 1000 for number in range(3000))
    table = RequestTable.from_rows([row(index=index, error=index) for index in range(3000)], errors=errors)
    again = RequestTable.from_blob(table.to_blob())
    assert len(again.errors) == 3000
    assert again.errors[7].startswith("7 ")
