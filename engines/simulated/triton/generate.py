"""``generate`` and ``generate_stream``: requests in the three backends' fields, events without an end mark."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from engines.simulated.answering import Answering
from engines.simulated.face import json_response
from engines.simulated.model import GenerationRequest, PromptTooLongError, hash_blocks
from engines.simulated.tokens import ESCAPED_WORDS, WORDS, tokenize, word_index
from engines.simulated.triton.backends import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.simulated.greedy import GreedyModel
    from engines.simulated.model import RequestState
    from engines.simulated.triton.control import LoadedModel

_LIMIT_FIELDS: Final = {
    Kind.LLM_API: "sampling_param_max_tokens",
    Kind.ENGINE: "max_tokens",
    Kind.VLLM: "max_tokens",
}
_DEFAULT_TOKENS: Final = {Kind.LLM_API: 32, Kind.ENGINE: 16, Kind.VLLM: 16}
_STREAM_FIELDS: Final = {Kind.LLM_API: "streaming", Kind.ENGINE: "stream", Kind.VLLM: "stream"}

_TOP_FIELDS: Final = {Kind.LLM_API: "sampling_param_top_k", Kind.ENGINE: "top_k", Kind.VLLM: "top_k"}

_ONE_RESPONSE: Final = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses"
)


class GenerateError(Exception):
    """A request is refused.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the backend reads it.

    Attributes:
        job: for the engine.
        text: the prompt.
        greedy: whether only the best token is wanted, so that the answer follows from the prompt.
        streaming: whether tokens are wanted as they come.
        wants_counts: whether every event tells how many tokens it carries (vLLM).
        wants_times: whether performance fields are wanted (LLM API).
    """

    job: GenerationRequest
    text: str
    greedy: bool
    streaming: bool
    wants_counts: bool
    wants_times: bool


class TokenEvents:
    """Events of one stream."""

    def __init__(self, model: str, *, counts: bool) -> None:
        self._head = b'data: {"model_name":%b,"model_version":"1",' % orjson.dumps(model)
        self._counts = counts

    def opening(self, prompt_tokens: int, cached_tokens: int) -> bytes:
        """Return what precedes the first token: nothing."""
        return b""

    def tokens(
        self, request_id: int, first: int, last: int, finish: str | None, prompt_tokens: int, cached_tokens: int
    ) -> bytes:
        """Return the event that carries tokens ``first`` to ``last``, the last one excluded."""
        words = b"".join(ESCAPED_WORDS[word_index(request_id, position)] for position in range(first, last))
        counts = b'"num_output_tokens":%d,' % (last - first) if self._counts else b""
        return b'%b%b"text_output":"%b"}\n\n' % (self._head, counts, words)


def read_request(body: bytes, kind: Kind, model: LoadedModel) -> Asked:
    """Read a request body.

    Raises:
        GenerateError: it is no JSON, has no text, or a field is of the wrong type.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise GenerateError(f"failed to parse the request JSON buffer: {error}", 500) from None
    if not isinstance(fields, dict) or fields.get("text_input") is None:
        raise GenerateError(
            f"[request id: <id_unknown>] expected number of inputs between 1 and 3 but got 0 inputs for model "
            f"'{model.files.name}'. Got input(s) [], but missing required input(s) ['text_input']. Please provide all "
            "required input(s).",
            400,
        )
    text = fields["text_input"]
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    if not isinstance(text, str):
        raise GenerateError("Unable to parse JSON bytes array: attempt to access JSON non-string as string", 500)
    settings = _sampling(fields) if kind is Kind.VLLM else fields
    return Asked(
        job=_job(text, settings, kind, model),
        text=text,
        greedy=_single(settings.get(_TOP_FIELDS[kind])) == 1,
        streaming=bool(_single(fields.get(_STREAM_FIELDS[kind], False))),
        wants_counts=kind is Kind.VLLM and bool(_single(fields.get("return_num_output_tokens", False))),
        wants_times=kind is Kind.LLM_API and bool(_single(fields.get("sampling_param_return_perf_metrics", False))),
    )


def _single(value: object) -> object:
    """Return the one element of a tensor that was sent as a list."""
    return value[0] if isinstance(value, list) and value else value


def _sampling(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return vLLM's sampling options: the tensor with a JSON text wins over the request's parameters."""
    text = _single(fields.get("sampling_parameters"))
    if isinstance(text, str):
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise GenerateError(f"Error parsing sampling_parameters: {error}", 200) from None
        return parsed if isinstance(parsed, dict) else {}
    parameters = fields.get("parameters")
    return {**fields, **(parameters if isinstance(parameters, dict) else {})}


def _job(text: str, settings: Mapping[str, Any], kind: Kind, model: LoadedModel) -> GenerationRequest:
    assert model.engine is not None
    simulation = model.engine.simulation
    limit = _single(settings.get(_LIMIT_FIELDS[kind], _DEFAULT_TOKENS[kind]))
    least = _single(settings.get("min_tokens", 0)) if kind is not Kind.LLM_API else 0
    if isinstance(limit, str) and limit.isdigit():
        limit = int(limit)
    if not isinstance(limit, int) or not isinstance(least, int) or limit < 1:
        raise GenerateError(
            f"Unable to parse '{_LIMIT_FIELDS[kind]}': attempt to access JSON non-unsigned-integer", 400
        )
    ids = tokenize(text, add_special_tokens=True)
    try:
        simulation.check(len(ids))
    except PromptTooLongError as error:
        raise GenerateError(str(error), 400) from error
    config = simulation.config
    return GenerationRequest(
        prompt_tokens=len(ids),
        max_tokens=limit,
        ignore_eos=kind is Kind.VLLM and bool(settings.get("ignore_eos", False)),
        min_tokens=min(least, limit),
        block_hashes=hash_blocks(ids, config.tokens_per_block) if config.enable_block_reuse else (),
    )


async def generate(
    request: web.Request, name: str, model: LoadedModel, cut_after_tokens: int | None, *, stream: bool
) -> web.StreamResponse:
    """Answer one request with the engine of a model.

    Args:
        request: what came.
        name: the model as asked for; it stands in every event.
        model: the model whose engine answers.
        cut_after_tokens: cut every stream after so many tokens, None never.
        stream: whether it came to ``generate_stream``.

    Raises:
        GenerateError: the request is refused.
    """
    kind = model.backing.kind
    asked = read_request(await request.read(), kind, model)
    if model.engine is None:
        raise GenerateError(f"Request for unknown model: '{name}' is not found", 404)
    answering = Answering(model.engine, cut_after_tokens)
    if stream and asked.streaming and model.backing.decoupled:
        events = TokenEvents(name, counts=asked.wants_counts)
        return await answering.stream(request, [asked.job], [events], lambda _: b"")
    (state,) = await answering.collect([asked.job])
    body = _whole(name, state, asked, model.engine.greedy)
    if not stream:
        # A decoupled model that streams is an error with HTTP 200 here (measured).
        several = model.backing.decoupled and asked.streaming
        return json_response({"error": _ONE_RESPONSE} if several else body)
    return await _as_events(request, body, asked, model)


async def _as_events(
    request: web.Request, body: dict[str, Any], asked: Asked, model: LoadedModel
) -> web.StreamResponse:
    """Send a whole answer as one event; a model that is not decoupled adds an error when streaming was asked for."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b"data: %b\n\n" % orjson.dumps(body))
    if asked.streaming and not model.backing.decoupled:
        error = {
            "error": f"ModelInfer RPC doesn't support models with decoupled transaction policy: {model.files.name}"
        }
        await response.write(b"data: %b\n\n" % orjson.dumps(error))
    await response.write_eof()
    return response


def _whole(name: str, state: RequestState, asked: Asked, greedy: GreedyModel) -> dict[str, Any]:
    if asked.greedy:
        text = "".join(word for word, _ in greedy.answer(asked.text, state.generated_tokens))
    else:
        text = "".join(WORDS[word_index(state.id, position)] for position in range(state.generated_tokens))
    body: dict[str, Any] = {"model_name": name, "model_version": "1", "text_output": text}
    if asked.wants_counts:
        body["num_output_tokens"] = state.generated_tokens
    if asked.wants_times:
        body |= _times(state)
    return body


def _times(state: RequestState) -> dict[str, str]:
    """Return the LLM API's performance fields, which are texts (triton.md 3.3)."""
    looked_up = state.reused_blocks + state.missed_blocks
    values: dict[str, float] = {
        "arrival_time_ns": round(state.arrival_ms * 1e6),
        "first_scheduled_time_ns": round((state.first_scheduled_ms or 0.0) * 1e6),
        "first_token_time_ns": round((state.first_token_ms or 0.0) * 1e6),
        "last_token_time_ns": round((state.last_token_ms or 0.0) * 1e6),
        "kv_cache_alloc_new_blocks": state.allocated_new_blocks,
        "kv_cache_alloc_total_blocks": state.allocated_new_blocks + state.reused_blocks,
        "kv_cache_reused_block": state.reused_blocks,
        "kv_cache_missed_block": state.missed_blocks,
        "kv_cache_hit_rate": state.reused_blocks / looked_up if looked_up else 0.0,
    }
    return {field: str(value) for field, value in values.items()}
