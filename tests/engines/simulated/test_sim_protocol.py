"""Request bodies: anything at all is either a request or a clear refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.simulated.tokens import render_chat, tokenize
from engines.simulated.trtllm.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    RequestError,
    SamplingRequest,
    error_body,
    parse_body,
)

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
FIELDS = st.sampled_from(["prompt", "model", "max_tokens", "stream", "stream_options", "n", "stop", "messages", "x"])


def refusal(body: bytes, model: type[SamplingRequest]) -> dict[str, Any]:
    """Return the error envelope of a body, empty when the body is a request."""
    try:
        parse_body(body, model)
    except RequestError as error:
        envelope: dict[str, Any] = json.loads(error_body(str(error)))
        return envelope
    return {}


@given(st.binary())
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    assert refusal(body, CompletionRequest).get("code", 400) == 400


@given(st.dictionaries(FIELDS, JSON, max_size=6))
def test_any_object_is_refused_or_read(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    for model in (CompletionRequest, ChatCompletionRequest):
        assert refusal(data, model).get("object", "error") == "error"


@pytest.mark.parametrize("prompt", ["a b", [1, 2], ["a", "b"], [[1, 2], [3]]])
def test_a_completion_takes_text_and_token_ids_alone_or_in_lists(prompt: object) -> None:
    body = json.dumps({"model": "m", "prompt": prompt}).encode()

    assert parse_body(body, CompletionRequest).prompt == prompt


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_chat_has_one_length_under_two_names(name: str) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], name: 7}).encode()

    assert parse_body(body, ChatCompletionRequest).max_completion_tokens == 7


@given(st.text(), st.text())
def test_equal_beginnings_give_equal_tokens(start: str, rest: str) -> None:
    start += " end. "
    short, long = tokenize(start, add_special_tokens=True), tokenize(start + rest, add_special_tokens=True)

    assert long[: len(short) - 1] == short[:-1]


def test_a_special_token_opens_a_text_when_asked_for() -> None:
    assert len(tokenize("hello", add_special_tokens=True)) == len(tokenize("hello", add_special_tokens=False)) + 1


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "name"]), JSON)))
def test_any_conversation_can_be_rendered(messages: list[dict[str, Any]]) -> None:
    assert render_chat(messages, add_generation_prompt=True).endswith("<|assistant|>\n")
