"""``python -m engines.simulated serve MODEL ...``: start a simulated inference server, in one of four dialects."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final

from engines.simulated.nim import serve as nim
from engines.simulated.options import SimulationOptions, split_options
from engines.simulated.triton import serve as triton
from engines.simulated.trtllm import serve as trtllm
from engines.simulated.vllm import serve as vllm

if TYPE_CHECKING:
    from collections.abc import Callable

DIALECTS: Final[dict[str, Callable[[list[str], SimulationOptions], int]]] = {
    "trtllm": trtllm.main,
    "vllm": vllm.main,
    "nim": nim.main,
    "triton": triton.main,
}
"""Servers that can be imitated; the first one is the default."""


def main(arguments: list[str]) -> int:
    """Run the dialect a command line asks for and return the exit code."""
    options, rest = split_options(arguments, tuple(DIALECTS))
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    return DIALECTS[options.dialect](rest, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
