"""Request bodies of vLLM's OpenAI endpoints, lenient about unknown fields, and its error envelopes (captured)."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_DEFAULT_COMPLETION_TOKENS = 16
"""What ``/v1/completions`` generates when no length is asked for."""


class RequestError(Exception):
    """A request the server refuses.

    Attributes:
        status: HTTP status.
        kind: ``type`` of the envelope.
        parameter: ``param`` of the envelope.
    """

    def __init__(self, message: str, *, status: int = 400, kind: str = "BadRequestError", parameter: str | None = None):
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.parameter = parameter

    def body(self) -> dict[str, Any]:
        """Return the envelope."""
        return {
            "error": {"message": str(self), "type": self.kind, "param": self.parameter, "code": self.status},
        }


class LenientRequest(BaseModel):
    """Lets unknown fields pass, as vLLM does with a warning."""

    model_config = ConfigDict(extra="allow")


class StreamOptions(LenientRequest):
    """``stream_options``; unlike TensorRT-LLM both are off unless asked for."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class SamplingRequest(LenientRequest):
    """Fields both endpoints share, as far as they change lengths or the shape of the answer."""

    model: str | None = None
    n: int = Field(default=1, ge=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    min_tokens: int = Field(default=0, ge=0)
    truncate_prompt_tokens: int | None = None
    cache_salt: str | None = None
    add_special_tokens: bool = True
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the totals."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_continuous_usage(self) -> bool:
        """Whether every chunk carries the totals so far; only together with the final ones."""
        return self.wants_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)


class CompletionRequest(SamplingRequest):
    """Body of ``/v1/completions``."""

    prompt: list[int] | list[list[int]] | str | list[str] | None = None
    max_tokens: int | None = Field(default=_DEFAULT_COMPLETION_TOKENS, ge=1)
    logprobs: int | None = None


class ChatCompletionRequest(SamplingRequest):
    """Body of ``/v1/chat/completions``."""

    messages: list[dict[str, Any]]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    add_generation_prompt: bool = True
    add_special_tokens: bool = False


_R = TypeVar("_R", bound=SamplingRequest)


def parse_body(body: bytes, model: type[_R], served_names: tuple[str, ...]) -> _R:
    """Read and validate a request body.

    Raises:
        RequestError: it is no JSON, a field is wrong, or another model is asked for.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid(f"{{'type': 'json_invalid', 'loc': ('body', 0), 'msg': 'JSON decode error: {error}'}}") from None
    try:
        parsed = model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _invalid(
            str({**first, "loc": ("body", *first["loc"])}), str(first["loc"][0]) if first["loc"] else None
        ) from None
    if parsed.model is not None and parsed.model not in served_names:
        raise RequestError(
            f"The model `{parsed.model}` does not exist.", status=404, kind="NotFoundError", parameter="model"
        )
    return parsed


def missing_prompt() -> RequestError:
    """Return the refusal of a completion without a prompt (captured, without the server's file names)."""
    return _invalid(
        "{'type': 'value_error', 'loc': ('body',), 'msg': 'Value error, Either prompt or prompt_embeds must be provided "
        "and non-empty. (parameter=prompt)'}",
        "prompt",
    )


def too_long(limit: int, prompt_tokens: int, output_tokens: int) -> RequestError:
    """Return the refusal of a request beyond the context length (captured)."""
    return RequestError(
        f"This model's maximum context length is {limit} tokens. However, you requested {output_tokens} output tokens and "
        f"your prompt contains {prompt_tokens} input tokens, for a total of {prompt_tokens + output_tokens} tokens. Please "
        "reduce the length of the input prompt or the number of requested output tokens. "
        f"(parameter=input_tokens, value={prompt_tokens})",
        parameter="input_tokens",
    )


def _invalid(detail: str, parameter: str | None = None) -> RequestError:
    return RequestError(f"1 validation error:\n  {detail}", kind="Bad Request", parameter=parameter)
