"""What holds for every test: hypothesis judges values, not how fast a busy machine finds them; and how many run at once."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("trtune", deadline=None)
settings.load_profile("trtune")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One worker more than there are CPUs: the tests that tune a server wait half of their time."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else len(os.sched_getaffinity(0)) + 1
