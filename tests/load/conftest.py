"""What the tests of the load generator share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tuner.load.generator import LoadGenerator


@pytest.fixture
async def generator() -> AsyncIterator[LoadGenerator]:
    async with LoadGenerator() as generator:
        yield generator
