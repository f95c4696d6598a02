"""Makes what a server needs before its start, such as a built engine, and keeps it for the next trial that needs it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

from engines.errors import CannotStart, StartFailed
from engines.failure import Failure
from engines.launch.process import ProcessLauncher
from engines.launch.spec import OUTPUT, LaunchSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engines.launch.base import LogSink
    from engines.launch.spec import BuildStep

LOCK_POLL_S = 0.5
LIMIT_S = 6 * 3600.0


def missing_builds(spec: LaunchSpec) -> tuple[BuildStep, ...]:
    """The steps of a launch whose folders are not there yet, in their order; a last folder that is there needs none."""
    if not spec.builds or spec.builds[-1].output.is_dir():
        return ()
    return tuple(step for step in spec.builds if not step.output.is_dir())


async def run_builds(spec: LaunchSpec, on_log: LogSink) -> tuple[str, ...]:
    """Run the steps whose folders are not there yet; each folder appears whole or not at all.

    Args:
        spec: The launch that needs them.
        on_log: Gets every line that they print.

    Returns:
        Names of the steps that were run.

    Raises:
        MissingProgram: If a program is not there.
        CannotStart: If the folder for what is built cannot be written.
        StartFailed: If a step fails; what it left is removed.
    """
    ran = []
    for step in missing_builds(spec):
        async with _locked(step.output):
            if not step.output.is_dir():  # another worker may have made it meanwhile
                await _run(spec, step, on_log)
                ran.append(step.name)
    return tuple(ran)


async def _run(spec: LaunchSpec, step: BuildStep, on_log: LogSink) -> None:
    draft = step.output.with_name(f"{step.output.name}.part")
    shutil.rmtree(draft, ignore_errors=True)  # of a worker that was killed: the lock says that nobody is at it
    words = tuple(str(draft) if word == OUTPUT else word for word in step.argv)
    command = LaunchSpec(words, "", "", spec.environment, failures=spec.failures, inherit=spec.inherit)
    try:
        finished = await ProcessLauncher().run_to_end(command, LIMIT_S, on_log)
        if finished.exit_code != 0 or not draft.is_dir():
            last = next((line.strip() for line in reversed(finished.lines) if line.strip()), "no word of why")
            text = f"{step.name} failed with exit code {finished.exit_code}: {last}"
            raise StartFailed(finished.failure or Failure("build_failed", text, last, exit_code=finished.exit_code))
        draft.rename(step.output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.asynccontextmanager
async def _locked(output: Path) -> AsyncIterator[None]:
    """One worker of this host makes a folder at a time; a lock goes away with its process.

    Raises:
        CannotStart: If nothing can be written there.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(output.with_name(f"{output.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        text = f"built engines cannot be kept in {output.parent}: {error.strerror}; name another folder as build_cache"
        raise CannotStart(Failure("no_build_folder", text, infeasible=False)) from error
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(fd)
