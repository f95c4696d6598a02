"""vLLM's answers: bytes of streamed chunks and bodies of whole ones, with the keys and the order of the captures."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import orjson

from engines.simulated.tokens import ESCAPED_WORDS, WORDS, word_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.simulated.model import RequestState

DONE_EVENT: Final = b"data: [DONE]\n\n"


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return a usage object; vLLM puts the total in the middle."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }


def total_usage(states: Sequence[RequestState]) -> dict[str, int]:
    """Return the usage of all choices together; a prompt counts once for all of its choices."""
    return usage(sum(state.request.prompt_tokens for state in states), sum(state.generated_tokens for state in states))


def _usage_field(prompt_tokens: int, completion_tokens: int) -> bytes:
    return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
        prompt_tokens,
        prompt_tokens + completion_tokens,
        completion_tokens,
    )


def _words(request_id: int, first: int, last: int) -> bytes:
    if last - first == 1:
        return ESCAPED_WORDS[word_index(request_id, first)]
    return b"".join(ESCAPED_WORDS[word_index(request_id, position)] for position in range(first, last))


def answer_text(state: RequestState) -> str:
    """Return a request's whole text."""
    return "".join(WORDS[word_index(state.id, position)] for position in range(state.generated_tokens))


class CompletionEvents:
    """Events of ``/v1/completions`` for one choice."""

    def __init__(self, answer_id: str, model: str, created: int, index: int, continuous_usage: bool) -> None:
        self._head = (
            b'data: {"id":"%b","object":"text_completion","created":%d,"model":%b,"choices":[{"index":%d,"text":"'
            % (
                answer_id.encode(),
                created,
                orjson.dumps(model),
                index,
            )
        )
        self._continuous = continuous_usage

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        """Return what precedes the first token: nothing."""
        return b""

    def tokens(
        self, request_id: int, first: int, last: int, finish: str | None, prompt_tokens: int, cached_tokens: int
    ) -> bytes:
        """Return the event that carries tokens ``first`` to ``last``, the last one excluded."""
        return b"".join(
            (
                self._head,
                _words(request_id, first, last),
                b'","logprobs":null,"finish_reason":',
                b"null" if finish is None else b'"%b"' % finish.encode(),
                b',"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]',
                _usage_field(prompt_tokens, last) if self._continuous else b"",
                b"}\n\n",
            )
        )


class ChatEvents:
    """Events of ``/v1/chat/completions`` for one choice."""

    def __init__(self, answer_id: str, model: str, created: int, index: int, continuous_usage: bool) -> None:
        self._head = (
            b'data: {"id":"%b","object":"chat.completion.chunk","created":%d,"model":%b,"choices":[{"index":%d,"delta":{'
            % (answer_id.encode(), created, orjson.dumps(model), index)
        )
        self._continuous = continuous_usage

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        """Return the role chunk, which goes out together with the first token."""
        return b"".join(
            (
                self._head,
                b'"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,'
                b'"prompt_text":null',
                _usage_field(prompt_tokens, 0) if self._continuous else b"",
                b"}\n\n",
            )
        )

    def tokens(
        self, request_id: int, first: int, last: int, finish: str | None, prompt_tokens: int, cached_tokens: int
    ) -> bytes:
        """Return the event that carries tokens ``first`` to ``last``, the last one excluded."""
        end = b"null" if finish is None else b'"%b","stop_reason":null' % finish.encode()
        return b"".join(
            (
                self._head,
                b'"content":"',
                _words(request_id, first, last),
                b'"},"logprobs":null,"finish_reason":',
                end,
                b',"token_ids":null}]',
                _usage_field(prompt_tokens, last) if self._continuous else b"",
                b"}\n\n",
            )
        )


def usage_chunk(
    answer_id: str, kind: str, model: str, created: int, fingerprint: str, states: Sequence[RequestState]
) -> dict[str, Any]:
    """Return the last chunk of a stream with totals."""
    return {
        "id": answer_id,
        "object": kind,
        "created": created,
        "model": model,
        "choices": [],
        "usage": total_usage(states),
        "system_fingerprint": fingerprint,
    }


def completion_object(
    answer_id: str, model: str, created: int, fingerprint: str, states: Sequence[RequestState]
) -> dict[str, Any]:
    """Return the body of a whole ``/v1/completions`` answer."""
    choices: list[dict[str, Any]] = [
        {
            "index": index,
            "text": answer_text(state),
            "logprobs": None,
            "finish_reason": state.finish_reason,
            "stop_reason": None,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }
        for index, state in enumerate(states)
    ]
    return _whole(answer_id, "text_completion", model, created, fingerprint, choices, states)


def chat_object(
    answer_id: str, model: str, created: int, fingerprint: str, states: Sequence[RequestState]
) -> dict[str, Any]:
    """Return the body of a whole ``/v1/chat/completions`` answer; its shape was not captured."""
    choices: list[dict[str, Any]] = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer_text(state), "refusal": None, "tool_calls": []},
            "logprobs": None,
            "finish_reason": state.finish_reason,
            "stop_reason": None,
            "token_ids": None,
        }
        for index, state in enumerate(states)
    ]
    return _whole(answer_id, "chat.completion", model, created, fingerprint, choices, states)


def _whole(
    answer_id: str,
    kind: str,
    model: str,
    created: int,
    fingerprint: str,
    choices: list[dict[str, Any]],
    states: Sequence[RequestState],
) -> dict[str, Any]:
    """Return what both endpoints put around the choices of a whole answer."""
    return {
        "id": answer_id,
        "object": kind,
        "created": created,
        "model": model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": fingerprint,
        "usage": {**total_usage(states), "prompt_tokens_details": None},
        "kv_transfer_params": None,
    }


def new_id(prefix: str) -> str:
    """Return an id as vLLM makes them: sixteen hexadecimal digits after the prefix."""
    return f"{prefix}-{secrets.token_hex(8)}"
