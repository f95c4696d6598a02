"""What runs the trials of a driver elsewhere, without the cluster that places it."""

from __future__ import annotations

import asyncio
import pickle
import sys
from typing import Any

from tuner.fleet.trial_host import TrialHost
from tuner.quality.checking import QualityQuestion
from tuner.search.levels import ListedLevels
from tuner.trial import Order

ARGUMENTS = ["--sim-gpu", "h100-sxm", "--sim-time-scale", "0.001"]
PLAN: dict[str, Any] = {
    "engine": {
        "name": "trtllm",
        "model": "llama-3.1-8b",
        "command": [sys.executable, "-m", "engines.simulated"],
        "arguments": ARGUMENTS,
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


async def test_a_skip_that_comes_before_the_trial_has_begun_here_is_not_lost() -> None:
    host = TrialHost("lane0", (), "0")
    running = asyncio.create_task(host.run(PLAN, Order("search", {}, ListedLevels((2.0,))), 0))
    await asyncio.sleep(0)
    host.wish("skip")

    result = await asyncio.wait_for(running, 60)

    assert result.state == "skipped"


async def test_a_model_is_held_against_answers_that_another_host_recorded() -> None:
    """What crosses the network is pickled: the question with the answers, and what was found."""
    prompts = ("one and one", "a word of thanks", "the capital of France")
    plan = {**PLAN, "engine": {**PLAN["engine"], "arguments": [*ARGUMENTS, "--sim-answer-loss", "fp8=0.5"]}}

    async def ask(params: dict[str, Any], question: QualityQuestion) -> Any:
        order = Order("search", params, ListedLevels((2.0,)), gate=question)
        result = await TrialHost("lane0", (), "0").run(plan, pickle.loads(pickle.dumps(order)), 0)
        return pickle.loads(pickle.dumps(result))

    unaltered = await ask({}, QualityQuestion(prompts))
    question = QualityQuestion(prompts, unaltered.gate.reference, ("kv_cache_config.dtype",))
    altered = await ask({"kv_cache_config.dtype": "fp8"}, question)

    assert unaltered.state == "complete"
    assert unaltered.gate.reference.own_agreement == 1.0
    assert altered.failure.kind == "quality"
    assert altered.gate.verdict["agreement"] < 0.9
