"""Say what this host has, what is missing, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns 0 when trtune itself can work here (an engine that is missing is no fault)."""
    from dataclasses import asdict

    import orjson

    from trtune.doctor import FAULT, examine

    findings = examine()
    for finding in findings:
        if args.json:
            print(orjson.dumps(asdict(finding)).decode())
        else:
            print(f"{finding.state:7}  {finding.topic:14}  {finding.text}")
            for todo in finding.todo:
                print(f"{'':25}  - {todo}")
    return 1 if any(finding.state == FAULT for finding in findings) else 0
