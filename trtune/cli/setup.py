"""Find servers, GPUs and models on this host, choose what to do, see the plan, and start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tui.front_door import Findings

EPILOG = """\
Without a terminal, or with --json, what was found is printed and nothing is started.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    from trtune.cli._common import add_output_flags

    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.cli._common import show_list, wants_lines

    if not wants_lines(args):
        return show_list(args, setup=True)
    _print_findings(json=args.json)
    return 0


def _print_findings(*, json: bool) -> None:
    from dataclasses import asdict

    import orjson

    from sessions.text import clean_line
    from trtune.find import find_here

    found = find_here()
    if json:
        print(orjson.dumps(asdict(found)).decode())
        return
    for line in _lines(found):
        print(clean_line(line))


def _lines(found: Findings) -> Iterator[str]:
    for server in found.servers:
        yield f"server  {server.url}  {server.title}  {server.model}  ({server.how})"
    for gpu in found.gpus:
        yield f"gpu     {gpu}"
    for name, told in found.models:
        yield f"model   {name}  ({told})"
    for engine in found.engines:
        yield f"engine  {engine.name}  {'can be started' if engine.ready else 'cannot be started'}: {engine.advice}"
    for note in found.notes:
        yield f"note    {note}"
