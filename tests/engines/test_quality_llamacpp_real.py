"""The quality gate's question on a real server: a KV cache of four bits answers otherwise, the same cache alike."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from engines.knob import Value
from engines.launch.ports import free_port
from engines.launch.process import ProcessLauncher, StopGrace
from engines.launch.spec import LaunchRequest
from engines.llamacpp import ENGINE
from tuner.quality.answers import Answer, Asker, Way
from tuner.quality.comparing import Comparison, compare
from tuner.quality.prompts import PROMPTS

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.real

TOKENS = 16
ASKED = PROMPTS[:6]


async def ask_server(
    model: Path, work_dir: Path, http: aiohttp.ClientSession, cache: str, reference: list[Answer] | None
) -> tuple[list[Answer], Comparison | None, Way | None]:
    """Answers of a server with a type of KV cache, and how they compare."""
    params: dict[str, Value] = {"parallel": 1, "threads": 1, "ctx-size": 1024, "cache-type-k": cache}
    spec = ENGINE.launch(LaunchRequest(str(model), params, "127.0.0.1", free_port(), work_dir))
    server = await ProcessLauncher(StopGrace(10.0, 10.0)).start(spec, lambda _: None)
    try:
        await server.wait_ready(http, timeout_s=60)
        asker = Asker(http, server.url, "tiny")
        answers = [await asker.ask(prompt, TOKENS) for prompt in ASKED]
        if reference is None:
            return answers, None, asker.way
        parts = [
            await compare(prompt, expected, answer, asker.ask)
            for prompt, expected, answer in zip(ASKED, reference, answers, strict=True)
        ]
        return answers, Comparison.sum_of(parts), asker.way
    finally:
        await server.stop()


async def test_a_quantised_kv_cache_is_told_from_an_exact_one(
    tiny_model: Path, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    reference, _, way = await ask_server(tiny_model, tmp_path, http, "f16", None)
    _, same, _ = await ask_server(tiny_model, tmp_path, http, "f16", reference)
    _, coarse, _ = await ask_server(tiny_model, tmp_path, http, "q4_0", reference)

    assert way == Way("completions", True)
    assert same is not None
    assert coarse is not None
    assert same.agreement == 1.0
    assert same.divergence is not None
    assert coarse.divergence is not None
    assert coarse.divergence > 1e-4 > same.divergence, "a model of random weights errs little, but measurably"
