"""`trtune tune --resume` with a larger budget or another place, and nothing that would make it another search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.reader import SessionReader
from sessions.recorder import Recorder
from tests.trtune.conftest import Program
from trtune.cli import run
from trtune.errors import UsageError
from trtune.resuming import change_stored_plan
from tuner.plan import Plan
from tuner.stored_plan import stored_plan

PLAN = Plan.model_validate({"engine": {"model": "m"}, "knobs": {"max_batch_size": {"low": 1, "high": 64, "log": True}}})


@pytest.fixture
def session(tmp_path: Path) -> Path:
    meta = {"kind": "tune", "plan": PLAN.model_dump(mode="json"), "budget": {"trials": 20, "spent": {"trials": 3}}}
    path = tmp_path / "run.trtune"
    Recorder.create(path, meta).close()
    return path


def test_a_search_that_is_over_goes_on_with_a_larger_budget(program: Program, plan: Callable[..., Path]) -> None:
    begun = program.run("tune", plan(), "--headless", "--trials", "1", "--session", program.session)
    assert begun.returncode == 0, begun.stderr

    resumed = program.run("tune", "--resume", program.session, "--headless", "--trials", "2")

    assert resumed.returncode == 0, resumed.stderr
    with SessionReader(program.session) as reader:
        assert [trial.state for trial in reader.trials()] == ["complete", "complete"]


def test_only_what_is_named_changes(session: Path) -> None:
    change_stored_plan(session, {"search.trials": 40, "fleet.cluster": "head:6379"})

    with SessionReader(session) as reader:
        plan, budget = stored_plan(reader), reader.meta()["budget"]
    assert (plan.search.trials, plan.fleet.cluster) == (40, "head:6379")
    assert plan.knobs == PLAN.knobs
    assert (budget["trials"], budget["spent"]) == (40, {"trials": 3})


def test_a_value_that_is_not_allowed_changes_nothing(session: Path) -> None:
    with pytest.raises(UsageError, match=r"search\.trials = 0 must be at least 1"):
        change_stored_plan(session, {"search.trials": 0})

    with SessionReader(session) as reader:
        assert stored_plan(reader) == PLAN


@pytest.mark.parametrize("words", [("--set", "search.trials=3"), ("--slo", "ttft:p99:<=:500"), ("--model", "other")])
def test_what_would_be_another_search_is_refused(
    session: Path, words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tune", "--resume", str(session), *words]) == 2

    assert f"so {words[0]} cannot be given" in capsys.readouterr().err
