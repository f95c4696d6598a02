"""Requests to Triton's `generate_stream`: what each backend wants in the body."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from sessions.clock import SessionClock
from sessions.requests import RequestStatus, RequestTable
from tuner.load.generator import LoadGenerator
from tuner.load.http_request import RequestBuilder
from tuner.load.lengths import Fixed
from tuner.load.spec import Endpoint, Level, Limits, StopRule, Workload


def sent(endpoint: Endpoint, *, ignore_eos: bool) -> dict[str, Any]:
    """The body of one request for eight tokens."""
    builder = RequestBuilder(endpoint, Workload(ignore_eos=ignore_eos))
    body: dict[str, Any] = orjson.loads(builder.build(["one two"], 8, "id").partition(b"\r\n\r\n")[2])
    return body


def endpoint(url: str = "http://127.0.0.1:8000", **fields: Any) -> Endpoint:
    return Endpoint(url, "ensemble", api="triton", **fields)


def test_the_text_is_an_input_and_the_model_stands_in_the_path() -> None:
    body = sent(endpoint(), ignore_eos=False)

    assert body == {"text_input": "one two", "max_tokens": 8, "stream": True}


def test_a_fixed_length_is_forced_in_both_backends_words() -> None:
    body = sent(endpoint(), ignore_eos=True)

    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"]) == (8, 8, True)


@pytest.mark.parametrize("ignore_eos", [True, False])
def test_the_llm_api_has_its_own_names_and_no_way_to_force_a_length(ignore_eos: bool) -> None:
    body = sent(endpoint(max_tokens_field="sampling_param_max_tokens"), ignore_eos=ignore_eos)

    assert body == {"text_input": "one two", "sampling_param_max_tokens": 8, "stream": True, "streaming": True}


def test_fields_of_the_endpoint_win() -> None:
    body = sent(endpoint(extra_body={"min_tokens": 2, "temperature": 0.5}), ignore_eos=True)

    assert (body["min_tokens"], body["temperature"]) == (2, 0.5)


async def test_a_level_against_triton_counts_every_token(tmp_path: Path) -> None:
    with simulated_triton(tmp_path) as url:
        async with LoadGenerator() as generator:
            tables: list[RequestTable] = []
            await generator.run(
                endpoint(url=url),
                Workload(isl=Fixed(tokens=32), osl=Fixed(tokens=16), ignore_eos=True),
                Level("concurrency", 4),
                StopRule(max_requests=12, max_s=None),
                Limits(drain_timeout_s=10),
                clock=SessionClock.start(),
                on_requests=tables.append,
                on_progress=lambda _: None,
            )

    table = RequestTable.concat(tables)
    assert (table.status == RequestStatus.OK).all()
    assert table.osl_tokens.tolist() == [16] * 12


@contextmanager
def simulated_triton(folder: Path) -> Iterator[str]:
    """A simulated Triton with the C++ backend's models, and its URL."""
    root = Path(__file__).parents[2]
    words = ["serve", "--sim-dialect", "triton", "--sim-time-scale", "0.001", "--sim-gpu", "h200", "--http-port", "0"]
    words += ["--http-address", "127.0.0.1", "--metrics-port", "0"]
    words += ["--model-repository", str(root / "tests" / "data" / "triton" / "engines")]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "engines.simulated", *words], stdout=output, stderr=output, cwd=root
        )
    try:
        deadline_s = time.monotonic() + 60
        while not (match := re.search(r"Started HTTPService at ([\d.:]+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.05)
        yield f"http://{match[1]}"
    finally:
        process.terminate()
        process.wait(20)
