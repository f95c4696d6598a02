"""Profiling from the command line: of a session's server, and as a script for Nsight Systems."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.commands import send_command
from sessions.reader import SessionReader
from tests.trtune.conftest import Program
from trtune.cli import run
from trtune.errors import UsageError
from trtune.exports.profiling import checked_iterations

from .test_exports import session

Capture = pytest.CaptureFixture[str]


def test_a_sessions_server_is_profiled_and_that_level_does_not_count(
    program: Program, plan: Callable[..., Path], capsys: Capture
) -> None:
    running = program.start(
        *("tune", plan(), "--headless", "--trials", "1", "--session", program.session),
        *("--set", "load.stop.min_s=8", "--set", "load.stop.max_s=9"),
    )
    program.wait_for(lambda reader: reader.levels(0))

    statuses = [run(["profile", word, str(program.session)]) for word in ("start", "start", "stop")]
    program.wait_for(lambda reader: reader.levels(0)[0].end_ns)
    send_command(program.session, "stop")  # or the trial, which has no result, would be made up for by another
    running.communicate(timeout=60)

    told = capsys.readouterr()
    assert statuses == [0, 1, 0]
    assert told.out.splitlines() == ["Profiling started", "Profiling stopped"]
    assert "already running" in told.err
    with SessionReader(program.session) as reader:
        (level,) = reader.levels(0)
    assert level.state == "invalid"
    assert "profiler ran while it was measured" in level.notes[0]


def test_a_session_that_is_over_has_no_server(tmp_path: Path, capsys: Capture) -> None:
    path = session(tmp_path / "run.trtune", {"name": "trtllm", "model": "m"}, {})

    assert run(["profile", "start", str(path)]) == 2
    assert "nobody works on this session" in capsys.readouterr().err


def test_nobody_at_the_address_is_one_line(capsys: Capture) -> None:
    assert run(["profile", "start", "http://127.0.0.1:9", "--engine", "trtllm"]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_the_script_starts_the_best_configuration_under_nsys(tmp_path: Path, capsys: Capture) -> None:
    path = session(tmp_path / "run.trtune", {"name": "trtllm", "model": "m"}, {"max_batch_size": 64})

    assert run(["profile", "script", str(path), "--iterations", "10-20,50", "--torch-trace", "t.json"]) == 0

    text = capsys.readouterr().out
    words = shlex.split(text.partition("exec ")[2])
    assert words[:2] == ["nsys", "profile"]
    assert words[words.index("-c") + 1] == "cudaProfilerApi"
    assert "TLLM_PROFILE_START_STOP=10-20,50" in words
    assert "TLLM_TORCH_PROFILE_TRACE=t.json" in words
    assert words[words.index("trtllm-serve") + 1] == "serve"
    assert "max_batch_size: 64" in text


@pytest.mark.parametrize("text", ["x", "5-", "20-10", "1;rm", "1,,2", "-5"])
def test_iterations_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write them like 100-150"):
        checked_iterations(text)


def test_usual_iterations_are_taken_when_none_are_named() -> None:
    assert checked_iterations("") == "100-150"
