"""The screen with the list of sessions: look at one, compare two, or set up something new."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli._common import add_screen_flags

    add_screen_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.cli._common import screen_problem, show_list
    from trtune.errors import UsageError

    if problem := screen_problem():
        raise UsageError(f"{problem.partition(':')[0]}: list the sessions with 'trtune sessions'")
    return show_list(args)
