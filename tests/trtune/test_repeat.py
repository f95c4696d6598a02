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
from trtune.cli import run
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


SIMULATED = {"command": ["{python}", "-m", "engines.simulated"]}


def session(path: Path, host: str, plan: dict[str, Any]) -> Path:
    meta: dict[str, Any] = {"kind": "tune", "host": {"name": host}, "plan": plan}
    Recorder.create(path, meta).close()
    return path


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"engine": {}}, "recorded on host 'elsewhere'"),
        ({"engine": {"command": ["sh", "-c", "x"]}}, "starts "),
        ({"engine": {**SIMULATED, "launch": "docker", "container": {"image": "x"}}}, "recorded on host"),
        ({"engine": {**SIMULATED, "environment": {"PYTHONPATH": "/tmp/x"}}}, "recorded on host"),
        ({"engine": SIMULATED, "fleet": {"cluster": "ray://x:10001"}}, "recorded on host"),
        ({"engine": SIMULATED, "quality": {"tasks": ["x"]}}, "recorded on host"),
        ({"engine": SIMULATED, "workload": {"dataset": {"path": "/etc/passwd"}}}, "recorded on host"),
    ],
)
def test_a_strangers_plan_is_not_started_without_a_word(tmp_path: Path, plan: dict[str, Any], why: str) -> None:
    path = session(tmp_path / "x.trtune", "elsewhere", plan)

    with pytest.raises(UsageError, match=f"{why}.*add --trust"):
        read_earlier(path, trusted=False)
    assert read_earlier(path, trusted=True).tables == plan


def test_a_plan_that_only_simulates_is_run_wherever_it_comes_from(tmp_path: Path) -> None:
    path = session(tmp_path / "x.trtune", "elsewhere", {"engine": SIMULATED})

    assert read_earlier(path, trusted=False).tables == {"engine": SIMULATED}


def test_a_session_of_another_host_is_not_gone_on_with_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = session(tmp_path / "x.trtune", "elsewhere", {"engine": {"command": ["sh", "-c", "x"]}})

    assert run(["tune", "--resume", str(path)]) == 2
    assert "recorded on host 'elsewhere'" in capsys.readouterr().err


def test_a_session_without_a_search_is_not_repeated(tmp_path: Path) -> None:
    Recorder.create(tmp_path / "x.trtune", {"kind": "bench", "plan": {}}).close()

    with pytest.raises(UsageError, match="no tuning that could be run again"):
        read_earlier(tmp_path / "x.trtune", trusted=True)
