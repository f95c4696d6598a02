"""Show live what a running server is doing. Sends it no load."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EPILOG = """\
examples:
  trtune watch http://127.0.0.1:8000
  trtune watch http://gpu-host:8000 --dcgm http://gpu-host:9400/metrics
  trtune watch http://127.0.0.1:8000 --once --json       one reading for a script
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli._common import add_output_flags
    from trtune.cli._target import add_target_flags

    add_target_flags(parser)
    parser.add_argument("--once", action="store_true", help="print one reading and end")
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.cli._common import begin_and_show
    from trtune.cli._target import target_tables
    from trtune.planfile import make_plan, set_fields

    tables = target_tables(args, "watch")
    set_fields(tables, args.set)
    plan = make_plan(tables, "flags")
    if args.once:
        from trtune.once import print_once

        return print_once(plan, json=args.json)
    return begin_and_show(plan, args)
