"""Make a session of what another tool measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

KINDS = ("trtllm-bench",)

EPILOG = """\
kinds:
  trtllm-bench   reports that `trtllm-bench throughput --report_json FILE` wrote: a trial for each

examples:
  trtune import trtllm-bench tp1.json tp2.json tp4.json
  trtune import trtllm-bench report.json --session before.trtune
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("kind", choices=KINDS, help="which tool wrote the files")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="its files")
    parser.add_argument("--session", metavar="FILE", help="where to write (default: a new file in the sessions folder)")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from trtune.bench_reports import import_reports
    from trtune.paths import new_session_path

    target = Path(args.session).expanduser() if args.session else new_session_path(args.kind)
    import_reports(args.files, target)
    print(target)
    print(f"look at it with: trtune replay {target}", file=sys.stderr)
    return 0
