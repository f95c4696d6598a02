"""A server under Nsight Systems, with a window of iterations to record (contract trtllm 9)."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from trtune.errors import UsageError
from trtune.exports.plain import shell_words, write_files

if TYPE_CHECKING:
    from trtune.exports.winner import Winner

WINDOW = "TLLM_PROFILE_START_STOP"
TRACE = "TLLM_TORCH_PROFILE_TRACE"
USUAL_ITERATIONS = "100-150"
_ITERATIONS = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*")


def nsys(winner: Winner) -> str:
    """A shell script that starts the server under nsys; the report lies beside it.

    Raises:
        UsageError: If the server is not TensorRT-LLM, or the iterations cannot be read.
    """
    if winner.engine.name != "trtllm":
        raise UsageError(f"{winner.engine.title} is not profiled by a window of iterations; try --format command")
    iterations = checked_iterations(winner.wishes.iterations)
    spec = winner.process()
    variables = {**spec.environment, WINDOW: iterations}
    if winner.wishes.trace:
        variables[TRACE] = winner.wishes.trace
    words = [
        *("nsys", "profile", "-o", winner.name, "-f", "true", "-t", "cuda,nvtx,python-gil"),
        *("-c", "cudaProfilerApi", "--cuda-graph-trace", "node", "--trace-fork-before-exec=true"),
        *(word for name, value in variables.items() for word in ("-e", f"{name}={value}")),
    ]
    run = " \\\n  ".join([shell_words(tuple(words)), shell_words(spec.argv)])
    return (
        f"#!/bin/sh\n# {winner.note()}\n"
        f"# Iterations {iterations} are recorded: send load, and stop the server with Ctrl-C once they are past.\n"
        "# Recording disturbs the times: figures measured meanwhile are not the server's own.\n"
        f"set -eu\n{write_files(spec)}exec {run}\n"
    )


def checked_iterations(text: str) -> str:
    """Iterations as the server takes them: `100-150`, `5`, `10-20,50-60`.

    Raises:
        UsageError: If they are written otherwise, or run backwards.
    """
    told = text or USUAL_ITERATIONS
    ends = (
        [[int(number) for number in part.split("-")] for part in told.split(",")] if _ITERATIONS.fullmatch(told) else []
    )
    if not ends or any(first > last for first, last in (pair for pair in ends if len(pair) == 2)):
        raise UsageError(f"--iterations {shlex.quote(text)}: write them like 100-150, or 10-20,50-60")
    return told
