"""What trtune relies on in a Triton, asked of a real one (the wheel `nvidia-pytriton`) and of the simulated one.

Each fact is one of triton.md sections 2 and 7; where both agree the simulated server may stand in for the real one.
"""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from .real_engines import CannotRun
from .triton_servers import REPOSITORY, Triton, running

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "tensorrt_llm"
WAIT_S = 30.0


def prepare_for_simulation(repository: Any) -> None:
    """The simulated server wants a model it has a shape of, and settings of the LLM API it knows."""
    path = repository / MODEL / "1" / "model.yaml"
    path.write_text(path.read_text().replace("model: stand-in", "model: llama-3.1-8b\nmax_seq_len: 2048"))


@pytest.fixture(
    scope="module", params=[pytest.param("simulated"), pytest.param("real", marks=[pytest.mark.real, pytest.mark.slow])]
)
def triton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp(f"triton_{request.param}")
    source = folder / "source"
    shutil.copytree(REPOSITORY, source)
    if request.param == "simulated":
        prepare_for_simulation(source)
    server = running(
        folder, "--model-control-mode=explicit", "--load-model=*", real=request.param == "real", repository=source
    )
    try:
        started = server.__enter__()
    except CannotRun as error:
        if request.param == "simulated":
            raise
        pytest.skip(f"no real Triton: {error}")
    try:
        yield started
    finally:
        server.__exit__(None, None, None)


def ask(url: str, body: Any = None, *, post: bool = False) -> tuple[int, str]:
    """Status and text of one request."""
    data = json.dumps(body).encode() if body is not None else (b"" if post else None)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def control(triton: Triton, action: str, body: Any = None) -> tuple[int, str]:
    return ask(f"{triton.url}/v2/repository/models/{MODEL}/{action}", body, post=True)


def row(triton: Triton) -> dict[str, str]:
    rows: list[dict[str, str]] = json.loads(ask(f"{triton.url}/v2/repository/index", post=True)[1])
    return next(entry for entry in rows if entry["name"] == MODEL)


def wait_for_state(triton: Triton, state: str) -> dict[str, str]:
    deadline_s = time.monotonic() + WAIT_S
    while (entry := row(triton)).get("state") != state:
        assert time.monotonic() < deadline_s, entry
        time.sleep(0.02)
    return entry


def config(triton: Triton) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(ask(f"{triton.url}/v2/models/{MODEL}/config")[1])
    return parsed


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n") if part.strip()]


REQUEST = {"text_input": "one two three", "streaming": True, "sampling_param_max_tokens": 3}


def test_it_says_that_it_is_triton(triton: Triton) -> None:
    status, text = ask(f"{triton.url}/v2")

    assert status == 200
    assert json.loads(text)["name"] == "triton"
    assert re.fullmatch(r"\d+\.\d+\.\d+", json.loads(text)["version"])


def test_the_index_has_the_model_ready(triton: Triton) -> None:
    assert row(triton) == {"name": MODEL, "version": "1", "state": "READY"}


def test_the_configuration_tells_backend_policy_and_parameters(triton: Triton) -> None:
    told = config(triton)

    assert told["backend"] == "python"
    assert told["model_transaction_policy"] == {"decoupled": True}
    assert told["parameters"]["stand_in"] == {"string_value": "yes"}


def test_a_stream_has_an_event_for_each_part_and_no_end_mark(triton: Triton) -> None:
    status, text = ask(f"{triton.url}/v2/models/{MODEL}/generate_stream", REQUEST)

    assert status == 200
    assert 1 <= len(events(text)) <= 3
    assert all(list(event) == ["model_name", "model_version", "text_output"] for event in events(text))
    assert "[DONE]" not in text


def test_generate_on_a_decoupled_model_is_an_error_with_status_200(triton: Triton) -> None:
    status, text = ask(f"{triton.url}/v2/models/{MODEL}/generate", REQUEST)

    assert status == 200
    assert "exactly 1 response" in json.loads(text)["error"]


def test_an_unknown_model_is_404_to_generate_and_400_to_ready(triton: Triton) -> None:
    generated = ask(f"{triton.url}/v2/models/none/generate", {})
    ready = ask(f"{triton.url}/v2/models/none/ready")

    assert generated == (404, '{"error":"Request for unknown model: \'none\' is not found"}')
    assert ready == (400, '{"error":"Model version not ready"}')


@pytest.mark.parametrize(("body", "status"), [({}, 400), ({"text_input": 5}, 500)])
def test_a_wrong_request_is_refused_with_an_error(triton: Triton, body: dict[str, Any], status: int) -> None:
    told, text = ask(f"{triton.url}/v2/models/{MODEL}/generate", body)

    assert told == status
    assert json.loads(text)["error"]


def test_metrics_are_on_their_own_port_only(triton: Triton) -> None:
    on_api, _ = ask(f"{triton.url}/metrics")
    status, page = ask(f"{triton.metrics_url}/metrics")

    assert (on_api, status) == (404, 200)
    assert re.search(rf'^nv_inference_request_success{{model="{MODEL}",version="1"}} \d+$', page, re.MULTILINE)
    assert "nv_cpu_utilization" in page


def test_a_load_that_changes_nothing_is_a_silent_no_op(triton: Triton) -> None:
    before = config(triton)

    assert control(triton, "load", {}) == (200, "")
    assert config(triton) == before


def test_a_changed_configuration_takes_effect_and_survives_an_empty_load(triton: Triton) -> None:
    wanted = config(triton)
    wanted["parameters"]["marker"] = {"string_value": "7"}

    assert control(triton, "load", {"parameters": {"config": json.dumps(wanted)}}) == (200, "")
    assert control(triton, "load", {}) == (200, "")

    assert config(triton)["parameters"]["marker"] == {"string_value": "7"}


def test_files_without_a_configuration_are_refused(triton: Triton) -> None:
    status, text = control(triton, "load", {"parameters": {"file:1/model.yaml": "YQ=="}})

    assert (status, "failed to poll from model repository" in text) == (500, True)


def test_a_model_that_is_not_there_cannot_be_loaded(triton: Triton) -> None:
    status, text = ask(f"{triton.url}/v2/repository/models/none/load", post=True)

    assert (status, json.loads(text)["error"]) == (500, "failed to load 'none', failed to poll from model repository")


def test_an_unload_is_answered_at_once_and_done_later(triton: Triton) -> None:
    assert control(triton, "unload") == (200, "")
    unready, _ = ask(f"{triton.url}/v2/health/ready")
    gone = wait_for_state(triton, "UNAVAILABLE")

    assert unready == 400
    assert gone["reason"] == "unloaded"
    assert ask(f"{triton.url}/v2/health/ready") == (200, "")
    assert control(triton, "load", {}) == (200, "")
    assert row(triton)["state"] == "READY"


def test_unload_and_load_start_the_counters_again(triton: Triton) -> None:
    ask(f"{triton.url}/v2/models/{MODEL}/generate_stream", REQUEST)

    control(triton, "unload")
    wait_for_state(triton, "UNAVAILABLE")
    control(triton, "load", {})

    _, page = ask(f"{triton.metrics_url}/metrics")
    assert f'nv_inference_request_success{{model="{MODEL}",version="1"}} 0' in page


def test_a_failed_load_leaves_the_old_model_serving(triton: Triton) -> None:
    path = triton.repository / MODEL / "1" / "model.yaml"
    good = path.read_text()
    path.write_text(good.replace("max_batch_size: 8\n", "max_batch_size: 13\nno_such_key: 1\n"))
    try:
        status, text = control(triton, "load", {})
        streamed, _ = ask(f"{triton.url}/v2/models/{MODEL}/generate_stream", REQUEST)
    finally:
        path.write_text(good)

    assert status == 400
    assert (
        f"load failed for model '{MODEL}': version 1 is at UNAVAILABLE state: Internal: " in json.loads(text)["error"]
    )
    assert row(triton)["state"] == "READY"
    assert streamed == 200
    assert control(triton, "load", {}) == (200, "")
