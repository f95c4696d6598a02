"""The bodies of answers that are not streamed, with the keys and the order of the captures."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import orjson

from engines.simulated.tokens import word_index
from engines.simulated.trtllm.events import answer_text, usage_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.simulated.model import RequestState
    from engines.simulated.trtllm.protocol import ChatCompletionRequest, CompletionRequest


def total_usage(states: Sequence[RequestState]) -> bytes:
    """Return the usage object of all choices together."""
    return usage_bytes(
        sum(state.request.prompt_tokens for state in states),
        sum(state.generated_tokens for state in states),
        sum(state.cached_tokens for state in states),
    )


def completion_object(body: CompletionRequest, created: int, states: Sequence[RequestState]) -> dict[str, Any]:
    """Return the body of a whole ``/v1/completions`` answer."""
    choices: list[dict[str, Any]] = []
    for index, state in enumerate(states):
        count = state.generated_tokens
        ids = None if body.detokenize else [word_index(state.id, position) for position in range(count)]
        choices.append(
            {
                "index": index,
                "text": answer_text(state.id, 0, count) if body.detokenize else "",
                "token_ids": ids,
                "logprobs": None,
                "context_logits": None,
                "finish_reason": state.finish_reason,
                "stop_reason": None,
                "disaggregated_params": None,
                "avg_decoded_tokens_per_iter": 1.0,
            }
        )
    return {
        "id": f"cmpl-{secrets.token_hex(16)}",
        "object": "text_completion",
        "created": created,
        "model": body.model,
        "choices": choices,
        "usage": orjson.loads(total_usage(states)),
        "prompt_token_ids": None if len(states) == 1 else [],
    }


def chat_object(body: ChatCompletionRequest, created: int, state: RequestState) -> dict[str, Any]:
    """Return the body of a whole ``/v1/chat/completions`` answer."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer_text(state.id, 0, state.generated_tokens),
        "reasoning_content": "",
        "reasoning": None,
        "tool_calls": [],
    }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": state.finish_reason,
        "stop_reason": None,
        "mm_embedding_handle": None,
        "disaggregated_params": None,
        "avg_decoded_tokens_per_iter": 1.0,
    }
    return {
        "id": f"chatcmpl-{secrets.token_hex(16)}",
        "object": "chat.completion",
        "created": created,
        "model": body.model,
        "choices": [choice],
        "usage": orjson.loads(total_usage([state])),
        "prompt_token_ids": None,
    }
