"""Entry of the generator process: `python -m tuner.load.hotpath FD`, with FD the inherited socket to the owner."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

from tuner.load.hotpath.link import Link
from tuner.load.hotpath.loop import Runner

PRIORITY = -10
"""Niceness asked for."""


def main() -> None:
    """Run levels for the owner at the other end of the socket, and end when it goes away."""
    # ctrl+c reaches the whole process group; the owner decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_file_limit()
    # Where it is allowed (root, CAP_SYS_NICE): being late costs exactness, and this process needs little.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    Runner(Link(socket.socket(fileno=int(sys.argv[1])))).run()


def _raise_file_limit() -> None:
    """Use as many descriptors as the system allows: each stream needs one."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS names no limit as the hard one and does not take it.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
