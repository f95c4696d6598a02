"""Tasks of lm-eval: its program is started and its results read. A stand-in writes results as lm-eval 0.4 does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tuner.quality.tasks import TaskError, run_tasks

STAND_IN = """
import json, pathlib, sys
args = sys.argv[1:]
told = dict(zip(args[::2], args[1::2]))
if told["--tasks"] == "broken":
    sys.exit("ValueError: no such task")
out = pathlib.Path(told["--output_path"]) / "m"
out.mkdir()
assert "base_url=http://127.0.0.1:1/v1/completions" in told["--model_args"]
results = {"gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.01}}
(out / "results_2026-01-01.json").write_text(json.dumps({"results": results}))
"""


@pytest.fixture
def program(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "lm_eval_stand_in.py"
    path.write_text(STAND_IN)
    return sys.executable, str(path)


def run(tasks: tuple[str, ...], program: tuple[str, str]) -> dict[str, float]:
    return asyncio.run(run_tasks(tasks, "http://127.0.0.1:1", "m", program))


def test_a_score_is_read_for_each_task(program: tuple[str, str]) -> None:
    assert run(("gsm8k",), program) == {"gsm8k": 0.5}
    assert run((), program) == {}


@pytest.mark.parametrize(("task", "word"), [("broken", "no such task"), ("arc", "no score for arc")])
def test_what_goes_wrong_is_told_in_one_line(program: tuple[str, str], task: str, word: str) -> None:
    with pytest.raises(TaskError, match=word):
        run((task,), program)


def test_a_missing_lm_eval_is_named() -> None:
    with pytest.raises(TaskError, match=r"trtune\[quality\]"):
        asyncio.run(run_tasks(("gsm8k",), "http://127.0.0.1:1", "m"))
