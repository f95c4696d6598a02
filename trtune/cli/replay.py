"""Look at a session again, moment by moment. Without a terminal: its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli._common import add_output_flags

    parser.add_argument("session", help="session file, or its name in the sessions folder")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.cli._common import require_session, show

    return show(require_session(args.session), args, live=False)
