"""Several pieces of work at once: one that fails ends the others, and none is left behind."""

from __future__ import annotations

import asyncio

import pytest

from tuner.side_by_side import side_by_side


async def test_results_come_in_order() -> None:
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await side_by_side(after(turns) for turns in (3, 1, 2)) == [3, 1, 2]


async def test_the_first_failure_ends_the_others_and_comes_alone() -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        await side_by_side([endless(), fails()])
    assert ended.is_set()
