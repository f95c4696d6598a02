"""vLLM's ``/v1/completions`` and ``/v1/chat/completions``: from a request body to tokens on the wire."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from engines.simulated.answering import Answering
from engines.simulated.face import json_response
from engines.simulated.model import GenerationRequest, hash_blocks
from engines.simulated.tokens import render_chat, tokenize
from engines.simulated.vllm import events
from engines.simulated.vllm.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    RequestError,
    SamplingRequest,
    missing_prompt,
    parse_body,
    too_long,
)

if TYPE_CHECKING:
    from aiohttp import web

    from engines.simulated.model import RequestState
    from engines.simulated.pacing import PacedEngine


Annotate = Callable[[Sequence["RequestState"]], dict[str, Any]]
"""Returns fields to add to an answer."""


class Generation:
    """The two generating endpoints of one server."""

    def __init__(
        self,
        engine: PacedEngine,
        served_names: tuple[str, ...],
        fingerprint: str,
        cut_after_tokens: int | None,
        annotate: Annotate | None = None,
    ) -> None:
        """Get ready.

        Args:
            engine: where requests go.
            served_names: names the model answers to.
            fingerprint: ``system_fingerprint`` of every answer.
            cut_after_tokens: cut every stream after so many tokens, None never.
            annotate: adds fields to whole answers and to a stream's usage chunk, None for none.
        """
        self._answering = Answering(engine, cut_after_tokens)
        self._simulation = engine.simulation
        self._greedy = engine.greedy
        self._names = served_names
        self._fingerprint = fingerprint
        self._annotate: Annotate = annotate or (lambda _: {})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /v1/completions``."""
        try:
            body = parse_body(await request.read(), CompletionRequest, self._names)
            jobs = [job for ids in _completion_prompts(body) for job in self._jobs(body, ids, body.max_tokens)]
        except RequestError as error:
            return json_response(error.body(), error.status)
        answer_id, created, model = events.new_id("cmpl"), int(time.time()), body.model or self._names[0]
        if not body.stream:
            states = await self._answering.collect(jobs)
            answer = events.completion_object(answer_id, model, created, self._fingerprint, states)
            if body.temperature == 0:
                self._greedy.rewrite(answer, _texts(body.prompt), logprobs=body.logprobs is not None)
            return json_response({**answer, **self._annotate(states)})
        made = [
            events.CompletionEvents(answer_id, model, created, index, body.wants_continuous_usage)
            for index in range(len(jobs))
        ]

        def tail(states: list[RequestState]) -> bytes:
            return self._tail(body, answer_id, "text_completion", created, states)

        return await self._answering.stream(request, jobs, made, tail)

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /v1/chat/completions``."""
        try:
            body = parse_body(await request.read(), ChatCompletionRequest, self._names)
            text = render_chat(body.messages, body.add_generation_prompt)
            asked = body.max_completion_tokens or body.max_tokens
            jobs = self._jobs(body, tokenize(text, body.add_special_tokens), asked)
        except RequestError as error:
            return json_response(error.body(), error.status)
        answer_id, created, model = events.new_id("chatcmpl"), int(time.time()), body.model or self._names[0]
        if not body.stream:
            states = await self._answering.collect(jobs)
            answer = events.chat_object(answer_id, model, created, self._fingerprint, states)
            if body.temperature == 0:
                self._greedy.rewrite(answer, [text], logprobs=bool(body.logprobs))
            return json_response({**answer, **self._annotate(states)})
        made = [
            events.ChatEvents(answer_id, model, created, index, body.wants_continuous_usage)
            for index in range(len(jobs))
        ]

        def tail(states: list[RequestState]) -> bytes:
            return self._tail(body, answer_id, "chat.completion.chunk", created, states)

        return await self._answering.stream(request, jobs, made, tail)

    def _tail(
        self, body: SamplingRequest, answer_id: str, kind: str, created: int, states: list[RequestState]
    ) -> bytes:
        if not body.wants_usage:
            return events.DONE_EVENT
        model = body.model or self._names[0]
        chunk = events.usage_chunk(answer_id, kind, model, created, self._fingerprint, states)
        return b"data: %b\n\n%b" % (orjson.dumps({**chunk, **self._annotate(states)}), events.DONE_EVENT)

    def _jobs(self, body: SamplingRequest, token_ids: Sequence[int], max_tokens: int | None) -> list[GenerationRequest]:
        """Turn a prompt into one engine request for each of its ``n`` choices; its length is checked first."""
        ids = token_ids[-body.truncate_prompt_tokens :] if body.truncate_prompt_tokens else token_ids
        limit = self._simulation.plan.max_seq_len
        wanted = max(1, limit - len(ids)) if max_tokens is None else max_tokens
        if len(ids) + wanted > limit:
            raise too_long(limit, len(ids), wanted)
        config = self._simulation.config
        salt = zlib.crc32(body.cache_salt.encode()) if body.cache_salt else 0
        hashes = hash_blocks(ids, config.tokens_per_block, salt) if config.enable_block_reuse else ()
        job = GenerationRequest(
            prompt_tokens=len(ids),
            max_tokens=wanted,
            ignore_eos=body.ignore_eos or body.temperature == 0,
            min_tokens=body.min_tokens,
            block_hashes=hashes,
        )
        return [job] * body.n


def _texts(prompt: list[int] | list[list[int]] | str | list[str] | None) -> list[str]:
    """The prompts that are texts; token ids keep the usual filler as their answer."""
    if isinstance(prompt, str):
        return [prompt]
    return [text for text in prompt or () if isinstance(text, str)]


def _completion_prompts(body: CompletionRequest) -> list[Sequence[int]]:
    prompt = body.prompt
    if not prompt:
        raise missing_prompt()
    if isinstance(prompt, str):
        return [tokenize(prompt, body.add_special_tokens)]
    prompts: list[Sequence[int]] = []
    token_ids: list[int] = []
    for item in prompt:
        if isinstance(item, int):
            token_ids.append(item)
        else:
            prompts.append(tokenize(item, body.add_special_tokens) if isinstance(item, str) else item)
    if token_ids:
        prompts.append(token_ids)
    if not all(prompts):
        raise missing_prompt()
    return prompts
