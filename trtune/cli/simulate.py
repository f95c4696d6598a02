"""Run the simulated inference server; every number it tells is pretended."""

from __future__ import annotations

import argparse
import os
import sys

EPILOG = """\
everything goes to the server as it stands, for example:
  trtune simulate serve llama-3.1-8b --port 8000 --sim-gpu h100-sxm
  trtune simulate serve --help
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as `trtllm-serve` takes them, and --sim-*")


def run(args: argparse.Namespace) -> int:
    """Become the server; does not return."""
    os.execv(sys.executable, [sys.executable, "-m", "engines.simulated", *args.arguments])  # noqa: S606 - no shell
