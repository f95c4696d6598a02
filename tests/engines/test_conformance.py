"""What every engine must do. A new engine is picked up by its file's name and tested here with no more words."""

from __future__ import annotations

import math
from pathlib import Path

import orjson
import pytest
import yaml

from engines.base import Engine
from engines.errors import BadConfiguration
from engines.launch.container import Container
from engines.launch.spec import LaunchRequest
from engines.registry import engine_names, get_engine

from .failure_lines import FAILURE_LINES

NAMES = engine_names()
STARTED = tuple(name for name in NAMES if get_engine(name).program)
WITHOUT_CONTAINERS = frozenset({"llamacpp", "trtllm_engines"})
"""Engines whose own modules give a launcher no container yet."""

CONCURRENCIES = (1.0, 7.5, 64.0, 5000.0)


def request(**params: object) -> LaunchRequest:
    return LaunchRequest("org/model", params, "127.0.0.1", 8123, Path("work"))  # type: ignore[arg-type]


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param)


@pytest.fixture(params=STARTED)
def started(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param)


def test_the_engines_of_the_first_release_are_there() -> None:
    assert {"llamacpp", "lmdeploy", "nim", "openai", "sglang", "tgi", "trtllm", "vllm"} <= set(NAMES)


def test_an_unknown_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadConfiguration, match=r"engine 'trt' is unknown; there are: .*trtllm"):
        get_engine("trt")


def test_an_engine_is_found_by_its_own_name(engine: Engine) -> None:
    assert get_engine(engine.name) is engine
    assert engine.title


def test_it_says_whether_this_host_can_start_it(engine: Engine) -> None:
    _, words = engine.available()

    assert words


def test_every_knob_is_described_and_allows_its_own_default_and_choices(engine: Engine) -> None:
    knobs = engine.knobs()

    assert len({knob.name for knob in knobs}) == len(knobs)
    for knob in knobs:
        assert knob.help, knob.name
        assert knob.allows(knob.default), knob.name
        assert all(knob.allows(choice) for choice in knob.choices), knob.name
        assert not knob.log or (knob.low is not None and knob.low > 0), knob.name


def test_numbers_that_are_searched_have_limits(engine: Engine) -> None:
    for knob in engine.knobs():
        if knob.searched and knob.kind in ("int", "float"):
            assert knob.low is not None, knob.name
            assert knob.high is not None, knob.name


def test_no_knob_takes_what_is_not_a_number(engine: Engine) -> None:
    for knob in engine.knobs():
        assert not knob.allows(math.nan) or knob.kind == "choice", knob.name
        assert not knob.allows(math.inf) or knob.kind == "choice", knob.name
        assert not knob.allows(10**400), knob.name


NUMBER = "9" * 3000
LINES = (
    f"Using max model len {NUMBER}",
    f"Available KV cache memory: {NUMBER} GiB",
    f"Chunked prefill is enabled with max_num_batched_tokens={NUMBER}",
    f"[TRT-LLM] x max_seq_len={NUMBER}, max_num_requests=1",
    f"Adjusted max_seq_len to {NUMBER}",
    f"for max tokens in paged KV cache ({NUMBER})",
    f"n_slots = {NUMBER}, n_ctx_slot = {NUMBER}, kv_unified = 'true'",
    f"threadpool init, n_threads = {NUMBER}",
)


def test_whatever_the_log_says_the_settings_in_force_can_be_recorded(engine: Engine) -> None:
    orjson.dumps(engine.effective_from_log(LINES))


def test_a_condition_of_a_knob_can_be_met(engine: Engine) -> None:
    knobs = {knob.name: knob for knob in engine.knobs()}

    for knob in knobs.values():
        for name, values in knob.requires.items():
            assert all(knobs[name].allows(value) for value in values), (knob.name, name)


def test_defaults_have_no_conflict(engine: Engine) -> None:
    assert engine.conflicts({}) is None
    assert engine.conflicts({knob.name: knob.default for knob in engine.knobs()}) is None


def test_starting_points_can_be_started(engine: Engine) -> None:
    for concurrency in CONCURRENCIES:
        for params in engine.starting_points(concurrency):
            assert engine.conflicts(params) is None
            assert engine.launch(request(**params)).argv


def test_the_baseline_can_be_started(started: Engine) -> None:
    spec = started.launch(request())

    said = (*spec.argv, *spec.environment.values())
    assert "org/model" in said
    assert "8123" in said
    assert spec.url == "http://127.0.0.1:8123"
    assert spec.ready_path.startswith("/")
    assert spec.failures


def test_all_defaults_given_explicitly_can_be_started(started: Engine) -> None:
    spec = started.launch(request(**{knob.name: knob.default for knob in started.knobs()}))

    for text in spec.files.values():
        assert isinstance(yaml.safe_load(text), dict)


def test_the_container_of_a_request_is_in_the_specification(started: Engine) -> None:
    container = Container("server:1", network="bridge")

    spec = started.launch(LaunchRequest("org/model", {}, "127.0.0.1", 8123, Path("work"), container=container))

    if started.name not in WITHOUT_CONTAINERS:
        assert spec.container is not None
        assert spec.container.image == "server:1"
        assert "8000" in (*spec.argv, *spec.environment.values())
        assert spec.url == "http://127.0.0.1:8123"


def test_no_specification_holds_a_secret(started: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NGC_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "hunter2")

    assert "hunter2" not in repr(started.launch(request()))


def test_an_unknown_setting_is_refused_in_one_line(started: Engine) -> None:
    with pytest.raises(BadConfiguration, match="no setting 'no_such_setting'") as raised:
        started.launch(request(no_such_setting=1))

    assert "\n" not in str(raised.value)


def test_words_of_the_plan_are_never_a_shell_line(started: Engine) -> None:
    model = "model; touch owned $(id)"

    spec = started.launch(LaunchRequest(model, {}, "127.0.0.1", 8123, Path("work")))

    assert model in (*spec.argv, *spec.environment.values())


@pytest.mark.parametrize(("name", "line", "kind"), FAILURE_LINES)
def test_a_line_is_recognised_and_explained(name: str, line: str, kind: str) -> None:
    rules = get_engine(name).launch(request()).failures

    rule = next(rule for rule in rules if rule.pattern.search(line))

    assert rule.kind == kind
    assert "{" not in rule.explain(line)


def test_every_failure_rule_has_a_line_that_it_is_the_first_to_recognise(started: Engine) -> None:
    rules = started.launch(request()).failures
    lines = [line for name, line, _ in FAILURE_LINES if name == started.name]

    first = {next(i for i, rule in enumerate(rules) if rule.pattern.search(line)) for line in lines}

    assert [rules[i].pattern.pattern for i in range(len(rules)) if i not in first] == []


def test_every_failure_says_what_to_do_and_accuses_knobs_that_exist(started: Engine) -> None:
    known = {knob.name for knob in started.knobs()}

    for rule in started.launch(request()).failures:
        assert any(mark in rule.text for mark in (":", ";")), rule.text
        assert set(rule.accuses) <= known, rule.text


@pytest.mark.parametrize("line", ["INFO:     Uvicorn running on http://127.0.0.1:8000", "Loading weights: 10%", ""])
def test_ordinary_lines_mean_no_failure(started: Engine, line: str) -> None:
    assert not any(rule.pattern.search(line) for rule in started.launch(request()).failures)
