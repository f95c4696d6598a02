"""Runs the same work several times at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def side_by_side(work: Callable[[], Awaitable[T]], times: int) -> list[T]:
    """Run the work so many times at once; when one of them fails, the others are ended and its error is raised alone.

    Args:
        work: What to do.
        times: How often.
    """
    tasks = [asyncio.ensure_future(work()) for _ in range(times)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
