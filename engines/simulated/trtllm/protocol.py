"""Request bodies of the OpenAI endpoints, strict as the server's, and its error envelopes (contract 2.2, 4.1)."""

from __future__ import annotations

import json
from typing import Any, Self, TypeVar

import orjson
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator


class RequestError(Exception):
    """A request the server refuses with HTTP 400; the message goes into the error envelope."""


class StrictRequest(BaseModel):
    """Refuses unknown fields."""

    model_config = ConfigDict(extra="forbid")


class StreamOptions(StrictRequest):
    """``stream_options``; continuous usage is on unless it is switched off."""

    include_usage: bool = True
    continuous_usage_stats: bool = True


class SamplingRequest(StrictRequest):
    """Fields both endpoints share; those without an effect here are accepted like the server accepts them."""

    model: str
    frequency_penalty: float | None = 0.0
    logit_bias: dict[str, float] | None = None
    n: int = 1
    presence_penalty: float | None = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    best_of: int | None = None
    use_beam_search: bool = False
    top_k: int = 0
    top_p_min: float = 0.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    early_stopping: bool = False
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    truncate_prompt_tokens: int | None = Field(default=None, ge=1)
    response_format: dict[str, Any] | None = None
    lora_request: dict[str, Any] | None = None
    return_context_logits: bool = False
    disaggregated_params: dict[str, Any] | None = None
    cache_salt: str | None = None
    priority: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _stream_options_need_stream(cls, data: Any) -> Any:  # pydantic hands over anything
        if isinstance(data, dict) and data.get("stream_options") and not data.get("stream"):
            raise ValueError("Stream options can only be defined when stream is true.")
        return data


class CompletionRequest(SamplingRequest):
    """Body of ``/v1/completions``."""

    prompt: list[int] | list[list[int]] | str | list[str]
    max_tokens: int | None = Field(default=None, ge=1)
    echo: bool | None = False
    logprobs: int | None = None
    suffix: str | None = None
    add_special_tokens: bool = True
    detokenize: bool = True

    @model_validator(mode="before")
    @classmethod
    def _no_logprobs(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("logprobs"):
            raise ValueError("logprobs is not supported")
        return data


class ChatCompletionRequest(SamplingRequest):
    """Body of ``/v1/chat/completions``; one length field under two names (contract section 4.1)."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("max_tokens", "max_completion_tokens")
    )
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    add_generation_prompt: bool = True
    add_special_tokens: bool = False
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = "none"
    reasoning_effort: str | None = None
    prompt_token_ids: list[int] | None = None
    documents: list[dict[str, str]] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_messages(self) -> Self:
        if not self.messages:
            raise ValueError("messages must not be empty")
        return self


_R = TypeVar("_R", bound=SamplingRequest)


def parse_body(body: bytes, model: type[_R]) -> _R:
    """Read and validate a request body.

    Raises:
        RequestError: with the text FastAPI and TensorRT-LLM produce together (captured).
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError(_json_error(body)) from None
    try:
        parsed = model.model_validate(data)
    except ValidationError as error:
        details = [{**detail, "loc": ("body", *detail["loc"])} for detail in error.errors(include_url=False)]
        raise RequestError(str(details)) from None
    if parsed.n != 1:
        raise RequestError("Multiple response is not supported in PyTorch workflow")
    return parsed


def _json_error(body: bytes) -> str:
    position, reason = 0, "Expecting value"
    try:
        json.loads(body)
    except UnicodeDecodeError:
        reason = "invalid utf-8"
    except json.JSONDecodeError as error:
        position, reason = error.pos, error.msg
    detail = {
        "type": "json_invalid",
        "loc": ("body", position),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": reason},
    }
    return str([detail])


def error_body(message: str) -> bytes:
    """Return the envelope of a refused request (captured)."""
    return orjson.dumps({"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400})
