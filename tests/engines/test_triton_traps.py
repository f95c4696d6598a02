"""Traps of a Triton that end its usefulness: a load that hangs for ever, and a server without model control."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from .real_engines import CannotRun
from .triton_servers import REPOSITORY, Triton, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = [pytest.param("simulated"), pytest.param("real", marks=[pytest.mark.real, pytest.mark.slow])]
MODEL = "tensorrt_llm"


def started(kind: str, folder: Path, mode: str) -> Iterator[Triton]:
    source = folder / "source"
    shutil.copytree(REPOSITORY, source)
    if kind == "simulated":
        path = source / MODEL / "1" / "model.yaml"
        path.write_text(path.read_text().replace("model: stand-in", "model: llama-3.1-8b"))
    words = ("--model-control-mode=explicit", "--load-model=*") if mode == "explicit" else ()
    try:
        with running(folder, *words, real=kind == "real", repository=source) as triton:
            yield triton
    except CannotRun as error:
        if kind == "simulated":
            raise
        pytest.skip(f"no real Triton: {error}")


@pytest.fixture(params=KINDS)
def explicit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Triton]:
    yield from started(request.param, tmp_path, "explicit")


@pytest.fixture(params=KINDS)
def uncontrolled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Triton]:
    yield from started(request.param, tmp_path, "none")


def post(url: str, body: Any, timeout_s: float) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data=json.dumps(body).encode()), timeout=timeout_s
        ) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_an_override_without_the_model_file_hangs_while_the_old_model_serves(explicit: Triton) -> None:
    patience_s = 4.0 if "--backend-directory" in str(explicit.process.args) else 0.5
    with urllib.request.urlopen(f"{explicit.url}/v2/models/{MODEL}/config", timeout=10) as answer:
        config = json.load(answer)
    config["parameters"]["marker"] = {"string_value": "1"}
    override = {"parameters": {"config": json.dumps(config), "file:1/model.yaml": "YTogMQo="}}

    with pytest.raises(TimeoutError):
        post(f"{explicit.url}/v2/repository/models/{MODEL}/load", override, patience_s)
    with pytest.raises(TimeoutError):
        post(f"{explicit.url}/v2/repository/models/{MODEL}/unload", {}, patience_s)

    request = {"text_input": "a", "streaming": True, "sampling_param_max_tokens": 1}
    assert post(f"{explicit.url}/v2/models/{MODEL}/generate_stream", request, 10)[0] == 200
    explicit.process.terminate()
    with pytest.raises(Exception, match="timed out"):
        explicit.process.wait(patience_s)
    explicit.process.kill()


def test_without_explicit_control_a_load_is_refused(uncontrolled: Triton) -> None:
    status, text = post(f"{uncontrolled.url}/v2/repository/models/{MODEL}/load", {}, 10)

    assert (status, json.loads(text)["error"]) == (
        503,
        "explicit model load / unload is not allowed if polling is enabled",
    )
