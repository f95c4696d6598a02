"""Finds out which family of server answers at a URL."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from engines.errors import EngineError, Unreachable
from engines.registry import get_engine

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 5.0

_OWNERS: Mapping[str, str] = {
    "tensorrt_llm": "trtllm",
    "llamacpp": "llamacpp",
    "vllm": "vllm",
    "sglang": "sglang",
    "lmdeploy": "lmdeploy",
}
"""What `/v1/models` says in `owned_by`, and the engine that means."""

_TRITONS = ("triton", "triton_engines", "triton_vllm")
OTHER = "openai"


async def detect_engine(url: str, headers: Mapping[str, str] | None = None) -> str:
    """The engine's name for the server at a URL; `openai` for any other that speaks the OpenAI API.

    A NIM is told by its own pages first: the engine inside signs its models.

    Raises:
        Unreachable: If nobody answers there, or not as an inference server does.
    """
    base = url.rstrip("/").removesuffix("/v1")
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as http:
        try:
            models = await _json(http, f"{base}/v1/models")
        except aiohttp.ClientResponseError as error:
            raise Unreachable(
                f"{base}/v1/models answers {error.status} {error.message}: name the variable that holds the API key"
                " (--api-key-env, engine.api_key_env)"
            ) from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if (triton := await _triton(http, base)) is not None:
                return triton
            reason = error.strerror if isinstance(error, aiohttp.ClientConnectorError) else str(error)
            reason = reason or "no answer in time"
            raise Unreachable(
                f"{url}: no inference server answers there ({reason}): is it running, is the URL right?"
            ) from error
        cards = models.get("data") if isinstance(models, dict) else None
        if not isinstance(cards, list):
            if (triton := await _triton(http, base)) is not None:
                return triton
            raise Unreachable(f"{base}/v1/models answers, but not with a list of models: is this an inference server?")
        if await _is_nim(http, base):
            return "nim"
    owners = [str(card.get("owned_by")) for card in cards if isinstance(card, dict)]
    return next((_OWNERS[owner] for owner in owners if owner in _OWNERS), OTHER)


async def _json(http: aiohttp.ClientSession, url: str) -> Any:
    """The JSON at an address, whatever its status; where a key is asked for there is none.

    Raises:
        ClientResponseError: If the server wants a key, or another one.
    """
    async with http.get(url, allow_redirects=False) as answer:
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            answer.raise_for_status()
        return await answer.json(content_type=None, loads=orjson.loads)  # refuses deep nesting by a ValueError


async def is_simulated(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a running server is trtune's simulated one: every answer of that one says so."""
    from engines.simulated.face import SERVER_HEADER

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), headers=headers) as http,
            http.get(f"{url.rstrip('/')}/v1/models", allow_redirects=False) as answer,
        ):
            return answer.headers.get("Server") == SERVER_HEADER
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False


async def _is_nim(http: aiohttp.ClientSession, base: str) -> bool:
    try:
        version = await _json(http, f"{base}/v1/version")
        metadata = await _json(http, f"{base}/v1/metadata")
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False
    return isinstance(version, dict) and "release" in version and isinstance(metadata, dict)


async def _triton(http: aiohttp.ClientSession, base: str) -> str | None:
    """The Triton engine whose backend the server's model has, or None when it is no Triton."""
    try:
        told = await _json(http, f"{base}/v2")
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("name") != "triton":
        return None
    for name in _TRITONS:
        try:
            await get_engine(name).inspect(http, base)
        except EngineError:
            continue
        return name
    return None
