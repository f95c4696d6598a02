"""``/v1/completions`` and ``/v1/chat/completions``: from a request body to tokens on the wire."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from engines.simulated.answering import Answering
from engines.simulated.model import GenerationRequest, PromptTooLongError, RequestState, hash_blocks
from engines.simulated.tokens import render_chat, tokenize
from engines.simulated.trtllm.answers import chat_object, completion_object, total_usage
from engines.simulated.trtllm.events import (
    DONE_EVENT,
    NO_USAGE,
    ChatEvents,
    CompletionEvents,
    UsageMode,
    final_usage_event,
)
from engines.simulated.trtllm.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    RequestError,
    SamplingRequest,
    error_body,
    parse_body,
)
from engines.simulated.trtllm.request_records import PERF_METRICS_EVENT, PERF_METRICS_HEADER, timing_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.simulated.pacing import PacedEngine

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a request body as token ids."""

    token_ids: Sequence[int]


class Generation:
    """The two generating endpoints of one server."""

    def __init__(
        self, engine: PacedEngine, *, cut_after_tokens: int | None = None, offers_timing: bool = False
    ) -> None:
        """Get ready.

        Args:
            engine: where requests go.
            cut_after_tokens: cut every stream after so many tokens, None never.
            offers_timing: whether a request may ask for timing fields (contract section 4.6, late 1.3).
        """
        self._engine = engine
        self._answering = Answering(engine, cut_after_tokens)
        self._offers_timing = offers_timing
        self._config = engine.simulation.config

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /v1/completions``."""
        try:
            body = parse_body(await request.read(), CompletionRequest)
            prompts = _completion_prompts(body)
            jobs = self._jobs(body, prompts, body.max_tokens)
        except (RequestError, PromptTooLongError) as error:
            return _refusal(error)
        created = int(time.time())
        if body.stream:
            usage = _usage_mode(body)
            events = [
                CompletionEvents(body.model, created, index, usage, body.detokenize) for index in range(len(jobs))
            ]
            return await self._stream(request, body.model, created, jobs, events, usage)
        states = await self._answering.collect(jobs)
        answer = completion_object(body, created, states)
        if _is_greedy(body) and body.detokenize:
            self._engine.greedy.rewrite(answer, _texts(body.prompt), logprobs=False)
        return _json(answer, self._timing(request, states[0]))

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        """Answer ``POST /v1/chat/completions``."""
        try:
            body = parse_body(await request.read(), ChatCompletionRequest)
            jobs = self._jobs(body, [_chat_prompt(body)], body.max_completion_tokens)
        except (RequestError, PromptTooLongError) as error:
            return _refusal(error)
        created = int(time.time())
        if body.stream:
            usage = _usage_mode(body)
            events = [ChatEvents(body.model, created, 0, usage)]
            return await self._stream(request, body.model, created, jobs, events, usage)
        states = await self._answering.collect(jobs)
        answer = chat_object(body, created, states[0])
        if _is_greedy(body):
            text = render_chat(body.messages, body.add_generation_prompt)
            self._engine.greedy.rewrite(answer, [text], logprobs=bool(body.logprobs))
        return _json(answer, self._timing(request, states[0]))

    async def probe(self) -> None:
        """Generate one token, as ``/health_generate`` does."""
        await self._answering.collect([GenerationRequest(prompt_tokens=8, max_tokens=1)])

    def _jobs(
        self, body: SamplingRequest, prompts: Sequence[Prompt], max_tokens: int | None
    ) -> list[GenerationRequest]:
        """Turn prompts into engine requests; all are checked before any is submitted."""
        salt = zlib.crc32(body.cache_salt.encode()) if body.cache_salt else 0
        jobs: list[GenerationRequest] = []
        for prompt in prompts:
            ids = prompt.token_ids
            if body.truncate_prompt_tokens is not None:
                ids = ids[-body.truncate_prompt_tokens :]
            self._engine.simulation.check(len(ids))
            room = self._engine.simulation.plan.max_seq_len - len(ids)
            reuse = self._config.enable_block_reuse
            jobs.append(
                GenerationRequest(
                    prompt_tokens=len(ids),
                    max_tokens=room if max_tokens is None else max_tokens,
                    ignore_eos=body.ignore_eos or _is_greedy(body),
                    min_tokens=body.min_tokens,
                    block_hashes=hash_blocks(ids, self._config.tokens_per_block, salt) if reuse else (),
                )
            )
        return jobs

    async def _stream(
        self,
        request: web.Request,
        model: str,
        created: int,
        jobs: Sequence[GenerationRequest],
        events: Sequence[CompletionEvents | ChatEvents],
        usage: UsageMode,
    ) -> web.StreamResponse:
        def tail(states: list[RequestState]) -> bytes:
            end = DONE_EVENT
            if usage.final:
                end = final_usage_event(model, created, total_usage(states)) + end
            timing = self._timing(request, states[0])
            if timing:
                end += b"event: %s\ndata: %s\n\n" % (PERF_METRICS_EVENT, orjson.dumps(timing))
            return end

        return await self._answering.stream(request, jobs, events, tail)

    def _timing(self, request: web.Request, state: RequestState) -> dict[str, str]:
        """Return the timing fields a request asked for, none if it did not or the version has none."""
        wanted = self._offers_timing and request.headers.get(PERF_METRICS_HEADER) == "1"
        return timing_fields(state) if wanted else {}


def _is_greedy(body: SamplingRequest) -> bool:
    return body.temperature == 0


def _texts(prompt: list[int] | list[list[int]] | str | list[str]) -> list[str]:
    """The prompts that are texts; token ids keep the usual filler as their answer."""
    return [prompt] if isinstance(prompt, str) else [text for text in prompt if isinstance(text, str)]


def _completion_prompts(body: CompletionRequest) -> list[Prompt]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [Prompt(tokenize(prompt, body.add_special_tokens))]
    if not prompt:
        raise RequestError("list index out of range")
    prompts: list[Prompt] = []
    token_ids: list[int] = []
    for item in prompt:
        if isinstance(item, int):
            token_ids.append(item)
        elif isinstance(item, str):
            prompts.append(Prompt(tokenize(item, body.add_special_tokens)))
        else:
            prompts.append(Prompt(item))
    if token_ids:
        prompts.append(Prompt(token_ids))
    if not all(prompt.token_ids for prompt in prompts):
        raise RequestError("list index out of range")
    return prompts


def _chat_prompt(body: ChatCompletionRequest) -> Prompt:
    if body.prompt_token_ids is not None:
        if not body.prompt_token_ids:
            raise RequestError("list index out of range")
        return Prompt(body.prompt_token_ids)
    return Prompt(tokenize(render_chat(body.messages, body.add_generation_prompt), body.add_special_tokens))


def _usage_mode(body: SamplingRequest) -> UsageMode:
    options = body.stream_options
    if options is None or not options.include_usage:
        return NO_USAGE
    return UsageMode(final=True, continuous=options.continuous_usage_stats)


def _json(value: dict[str, Any], headers: dict[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type=_JSON, headers=headers)


def _refusal(error: Exception) -> web.Response:
    return web.Response(status=400, body=error_body(str(error)), content_type=_JSON)
