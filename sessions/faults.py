"""What a worker leaves behind when a fault ends it that Python cannot catch, such as a segmentation fault in a driver library.

While a worker runs, such a fault writes the stack of every thread into a file beside the session (`NAME.trtune-fault`). The file
goes away when the worker ends in any other way that it can see.
"""

from __future__ import annotations

import faulthandler
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = "-fault"
MOST_BYTES = 1 << 20
"""More is not read of a file that somebody else may have put there."""


def fault_path(session: Path) -> Path:
    """The file beside a session."""
    return session.with_name(session.name + SUFFIX)


@contextmanager
def faults_written(session: Path) -> Iterator[None]:
    """Have a fault of this process written beside a session.

    Args:
        session: The session that this process writes.

    Raises:
        OSError: If the file cannot be written.
    """
    path = fault_path(session)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            path.unlink(missing_ok=True)


def read_fault(session: Path) -> list[str]:
    """What the fault wrote that ended the session's worker, line by line, its kind first; empty when there was none."""
    try:
        fd = os.open(fault_path(session), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    with os.fdopen(fd, errors="replace") as file:
        return file.read(MOST_BYTES).splitlines()
