"""One thread for the search's algebra: its matrices are so small that BLAS threads only wait for each other."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def one_thread() -> AbstractContextManager[object]:
    """Hold BLAS to one thread inside the block; the caller's setting is back afterwards."""
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    """Looking through the loaded libraries takes milliseconds, so it is done once."""
    return ThreadpoolController()
