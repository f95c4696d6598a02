"""`trtune tune --from SESSION`: the same plan again, compared with the first time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessions.reader import SessionReader
from sessions.recorder import Recorder
from sessions.report.facts import gather
from sessions.report.outcome import changed_conditions
from sessions.report.page import report_page
from tests.trtune.conftest import Program
from trtune.errors import UsageError
from trtune.repeat import read_earlier


def test_a_session_is_run_again_and_compared(program: Program, plan: Callable[..., Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first.trtune", program.session
    done = program.run("tune", plan(), "--headless", "--trials", "2", "--session", first)
    assert done.returncode == 0, done.stderr

    done = program.run("tune", "--from", first, "--trust", "--headless", "--trials", "1", "--session", second)

    assert done.returncode == 0, done.stderr
    assert "compared with first.trtune:" in done.stdout
    with SessionReader(second) as reader:
        facts = gather(reader)
    assert ("plan.search.trials", 2, 1) in changed_conditions(facts)
    assert "Repeats first.trtune" in report_page(facts)


def session(path: Path, host: str, command: list[str]) -> Path:
    meta: dict[str, Any] = {"kind": "tune", "host": {"name": host}, "plan": {"engine": {"command": command}}}
    Recorder.create(path, meta).close()
    return path


@pytest.mark.parametrize(
    ("host", "command", "why"),
    [("elsewhere", [], "recorded on host 'elsewhere'"), ("elsewhere", ["sh", "-c", "x"], "starts ")],
)
def test_a_strangers_plan_is_not_started_without_a_word(
    tmp_path: Path, host: str, command: list[str], why: str
) -> None:
    path = session(tmp_path / "x.trtune", host, command)

    with pytest.raises(UsageError, match=f"{why}.*add --trust"):
        read_earlier(path, trusted=False)
    assert read_earlier(path, trusted=True).tables == {"engine": {"command": command}}


def test_a_session_without_a_search_is_not_repeated(tmp_path: Path) -> None:
    Recorder.create(tmp_path / "x.trtune", {"kind": "bench", "plan": {}}).close()

    with pytest.raises(UsageError, match="no tuning that could be run again"):
        read_earlier(tmp_path / "x.trtune", trusted=True)
