"""What runs the trials of a driver elsewhere, without the cluster that places it."""

from __future__ import annotations

import asyncio
import sys

from tuner.fleet.trial_host import TrialHost
from tuner.search.levels import ListedLevels
from tuner.trial import Order

PLAN = {
    "engine": {
        "name": "trtllm",
        "model": "llama-3.1-8b",
        "command": [sys.executable, "-m", "engines.simulated"],
        "arguments": ["--sim-gpu", "h100-sxm", "--sim-time-scale", "0.001"],
    },
    "gpu": {"local": False},
    "workload": {"isl": 16, "osl": 4},
    "load": {"levels": [2], "stop": {"min_s": 0.2, "max_s": 0.4, "min_requests": 2}},
}


async def test_a_pause_that_came_with_the_last_trial_does_not_hold_up_the_next_one() -> None:
    host = TrialHost("lane0", (), "0")
    host.wish("pause")  # and the driver goes on before it hands over another trial

    result = await asyncio.wait_for(host.run(PLAN, Order("search", {}, ListedLevels((2.0,))), 0), 60)

    assert result.state == "complete"
