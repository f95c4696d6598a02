"""Tune a simulated server: everything trtune does, without a GPU. Every number of it is simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli._common import add_output_flags

    parser.add_argument(
        "--session", metavar="FILE", help="where to record (default: a new file in the sessions folder)"
    )
    parser.add_argument("--trials", type=int, help="trials at most, the baseline included")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="set any field of the plan")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.cli._common import begin_and_show
    from trtune.planfile import make_plan, put, set_fields
    from trtune.plans import demo_tables

    tables = demo_tables()
    if args.trials is not None:
        put(tables, "search.trials", args.trials)
    set_fields(tables, args.set)
    return begin_and_show(make_plan(tables, "demo"), args)
