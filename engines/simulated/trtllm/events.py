"""The bytes of a streamed answer, one server-sent event per token, built from parts that are made once per request.

Shape and order of keys are those of the captures. Every chunk of the real server has its own random id; here the id is
random per request and counts up, which is cheaper and just as unique.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

import orjson

from engines.simulated.tokens import ESCAPED_WORDS, WORDS, word_index

DONE_EVENT: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class UsageMode:
    """Which usage blocks a stream carries.

    Attributes:
        final: a last chunk with the totals.
        continuous: cumulative usage in every chunk.
    """

    final: bool
    continuous: bool


NO_USAGE: Final = UsageMode(final=False, continuous=False)
"""What a stream without ``stream_options`` carries."""


def usage_bytes(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> bytes:
    """Return a usage object."""
    return (
        b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}'
        % (prompt_tokens, prompt_tokens + completion_tokens, completion_tokens, cached_tokens)
    )


def final_usage_event(model: str, created: int, usage: bytes) -> bytes:
    """Return the last chunk of a stream with totals; both endpoints call it a chat chunk (captured)."""
    return (
        b'data: {"id":"chatcmpl-%s","object":"chat.completion.chunk","created":%d,"model":%s,"choices":[],"usage":%s}\n\n'
        % (secrets.token_hex(16).encode(), created, orjson.dumps(model), usage)
    )


def answer_text(request_id: int, first: int, last: int) -> str:
    """Return the words of tokens ``first`` to ``last``, the last one excluded."""
    return "".join(WORDS[word_index(request_id, position)] for position in range(first, last))


class CompletionEvents:
    """Events of ``/v1/completions`` for one choice."""

    def __init__(self, model: str, created: int, index: int, usage: UsageMode, detokenize: bool) -> None:
        base = secrets.token_hex(12).encode()
        self._head = b'data: {"id":"cmpl-' + base + b"%08x"
        self._middle = b'","object":"text_completion","created":%d,"model":%s,"choices":[{"index":%d,"text":"' % (
            created,
            orjson.dumps(model),
            index,
        )
        self._continuous = usage.continuous
        self._detokenize = detokenize

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        """Return what precedes the first token: nothing."""
        return b""

    def tokens(
        self, request_id: int, first: int, last: int, finish: str | None, prompt_tokens: int, cached_tokens: int
    ) -> bytes:
        """Return the event that carries tokens ``first`` to ``last``, the last one excluded."""
        if self._detokenize:
            text, ids = _escaped(request_id, first, last), b"null"
        else:
            text = b""
            ids = orjson.dumps([word_index(request_id, position) for position in range(first, last)])
        usage = usage_bytes(prompt_tokens, last, cached_tokens) if self._continuous else b"null"
        reason = b"null" if finish is None else b'"%s"' % finish.encode()
        return b"".join(
            (
                self._head % first,
                self._middle,
                text,
                b'","token_ids":',
                ids,
                b',"logprobs":null,"finish_reason":',
                reason,
                b',"stop_reason":null,"avg_decoded_tokens_per_iter":1.0}],"usage":',
                usage,
                b"}\n\n",
            )
        )


class ChatEvents:
    """Events of ``/v1/chat/completions`` for one choice."""

    def __init__(self, model: str, created: int, index: int, usage: UsageMode) -> None:
        base = secrets.token_hex(12).encode()
        self._head = b'data: {"id":"chatcmpl-' + base + b"%08x"
        self._middle = (
            b'","object":"chat.completion.chunk","created":%d,"model":%s,"choices":[{"index":%d,"delta":{'
            % (created, orjson.dumps(model), index)
        )
        self._continuous = usage.continuous

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        """Return the role chunk, which goes out together with the first token; it ends with a stray space."""
        usage = b',"usage":' + usage_bytes(prompt_tokens, 0, cached_tokens) if self._continuous else b""
        role = b'"role":"assistant"}}]'
        return b"".join((self._head % 0xFFFFFFFF, self._middle, role, usage, b"} \n\n"))

    def tokens(
        self, request_id: int, first: int, last: int, finish: str | None, prompt_tokens: int, cached_tokens: int
    ) -> bytes:
        """Return the event that carries tokens ``first`` to ``last``, the last one excluded."""
        usage = b',"usage":' + usage_bytes(prompt_tokens, last, cached_tokens) if self._continuous else b""
        reason = b"" if finish is None else b',"finish_reason":"%s"' % finish.encode()
        return b"".join(
            (
                self._head % first,
                self._middle,
                b'"content":"',
                _escaped(request_id, first, last),
                b'","reasoning_content":""}',
                reason,
                b',"avg_decoded_tokens_per_iter":1.0}]',
                usage,
                b"}\n\n",
            )
        )


def _escaped(request_id: int, first: int, last: int) -> bytes:
    if last - first == 1:
        return ESCAPED_WORDS[word_index(request_id, first)]
    return b"".join(ESCAPED_WORDS[word_index(request_id, position)] for position in range(first, last))
