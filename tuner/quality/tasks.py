"""Tasks of EleutherAI's lm-evaluation-harness, where a plan names some: run by its own program against the server's URL."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFERRED: Final = ("exact_match", "acc_norm", "acc", "f1")
"""Which of a task's metrics counts: the first that it has."""

_LAST_LINES: Final = 3


class TaskError(Exception):
    """The tasks could not be run; the text is one line fit for a person."""


async def run_tasks(tasks: Sequence[str], url: str, model: str, program: Sequence[str] = ()) -> dict[str, float]:
    """Run tasks against a server; returns the score of each.

    Args:
        tasks: Names of lm-eval's tasks; none: nothing is run.
        url: Base URL of the server.
        model: Model name to ask for.
        program: Words that start lm-eval; none: the installed one.

    Raises:
        TaskError: If lm-eval is not installed, fails, or gives no score for a task.
    """
    if not tasks:
        return {}
    if not program and importlib.util.find_spec("lm_eval") is None:
        raise TaskError("quality.tasks needs lm-eval: pip install 'trtune[quality]', or leave the tasks out")
    with tempfile.TemporaryDirectory(prefix="trtune-tasks-") as folder:
        words = [*(program or (sys.executable, "-m", "lm_eval")), *_arguments(tasks, url, model, folder)]
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            out, _ = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            last = out.decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
            raise TaskError(f"lm-eval ended with status {process.returncode}: {' / '.join(last)}")
        return _scores(Path(folder), tasks)


def _arguments(tasks: Sequence[str], url: str, model: str, folder: str) -> list[str]:
    settings = f"model={model},base_url={url}/v1/completions,num_concurrent=8,max_retries=3,tokenized_requests=False"
    return [
        *("--model", "local-completions", "--model_args", settings),
        *("--tasks", ",".join(tasks), "--output_path", folder, "--gen_kwargs", "temperature=0"),
    ]


def _scores(folder: Path, tasks: Sequence[str]) -> dict[str, float]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("results*.json")):
        found |= json.loads(path.read_text(encoding="utf-8")).get("results", {})
    scores: dict[str, float] = {}
    for task in tasks:
        metrics = {name.partition(",")[0]: value for name, value in found.get(task, {}).items()}
        known = next((metrics[name] for name in PREFERRED if isinstance(metrics.get(name), int | float)), None)
        if known is None:
            raise TaskError(f"lm-eval gave no score for {task}: there is {', '.join(sorted(metrics)) or 'nothing'}")
        scores[task] = float(known)
    return scores
