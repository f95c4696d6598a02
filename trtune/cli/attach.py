"""Show a session that is being worked on: the same screen, from another terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli._common import add_output_flags

    parser.add_argument("session", nargs="?", help="session file or name (default: the newest one being worked on)")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from sessions.errors import SessionError
    from sessions.holding import is_written
    from trtune.cli._common import require_session, show
    from trtune.paths import known_sessions, sessions_dir

    if args.session:
        path = require_session(args.session)
        if not is_written(path):
            raise SessionError(
                f"{path}: nobody works on it; look at it with 'trtune replay', go on with 'trtune tune --resume'"
            )
        return show(path, args, live=True)
    path_or_none = next((path for path in known_sessions(sessions_dir()) if is_written(path)), None)
    if path_or_none is None:
        raise SessionError(f"no session in {sessions_dir()} is being worked on; begin one with 'trtune tune'")
    return show(path_or_none, args, live=True)
