"""Flags that say what counts as better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_goal_flags(parser: argparse.ArgumentParser) -> None:
    """Flags for objective, limits and preset."""
    group = parser.add_argument_group("what counts")
    group.add_argument(
        "--preset",
        choices=["throughput", "latency", "interactive", "cost", "energy"],
        help="objective and limits by a name",
    )
    group.add_argument(
        "--objective",
        action="append",
        default=[],
        metavar="METRIC[:STAT[:DIRECTION]]",
        help="such as goodput or ttft:p99:minimize; several give a Pareto front",
    )
    group.add_argument("--slo", action="append", default=[], help="a limit, such as ttft:p99:<=:500")


def goal_fields(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags ask for, as the fields of the command `objective`; empty when they ask for nothing.

    Raises:
        UsageError: If an objective cannot be read.
    """
    from trtune.errors import UsageError
    from tuner.goals import parse_goal

    try:
        goals = [parse_goal(text) for text in args.objective]
    except ValueError as error:
        raise UsageError(str(error)) from error
    if args.preset and goals:
        raise UsageError("give --preset or --objective, not both")
    fields: dict[str, Any] = {}
    if args.preset:
        fields["preset"] = args.preset
    if len(goals) == 1:
        fields |= goals[0]
    if len(goals) > 1:
        fields["objectives"] = goals
    if args.slo:
        fields["slos"] = args.slo
    return fields
