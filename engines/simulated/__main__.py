"""``python -m engines.simulated serve MODEL ...``: start a simulated inference server, in one of four dialects."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Final

from engines.simulated.options import split_options

DIALECTS: Final = {
    "trtllm": "engines.simulated.trtllm.serve",
    "vllm": "engines.simulated.vllm.serve",
    "nim": "engines.simulated.nim.serve",
    "triton": "engines.simulated.triton.serve",
}
"""Servers that can be imitated; the first one is the default. Only the one that is asked for is imported."""


def main(arguments: list[str]) -> int:
    """Run the dialect a command line asks for and return the exit code."""
    options, rest = split_options(arguments, tuple(DIALECTS))
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    code: int = importlib.import_module(DIALECTS[options.dialect]).main(rest, options)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
