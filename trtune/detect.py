"""Finds out which family of server answers at a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

from engines.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 5.0

_OWNERS: Mapping[str, str] = {"tensorrt_llm": "trtllm", "llamacpp": "llamacpp"}
"""What `/v1/models` says in `owned_by`, and the engine that means."""

OTHER = "openai"


async def detect_engine(url: str, headers: Mapping[str, str] | None = None) -> str:
    """The engine's name for the server at a URL; `openai` for any other that speaks the OpenAI API.

    Raises:
        Unreachable: If nobody answers there, or not as an OpenAI-style server does.
    """
    models_url = f"{url.rstrip('/').removesuffix('/v1')}/v1/models"
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as http,
            http.get(models_url, allow_redirects=False) as answer,
        ):
            models = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or "no answer in time"
        raise Unreachable(
            f"{url}: no OpenAI-style server answers there ({reason}): is it running, is the URL right?"
        ) from error
    cards = models.get("data") if isinstance(models, dict) else None
    if not isinstance(cards, list):
        raise Unreachable(f"{models_url} answers, but not with a list of models: is this an inference server?")
    owners = [str(card.get("owned_by")) for card in cards if isinstance(card, dict)]
    return next((_OWNERS[owner] for owner in owners if owner in _OWNERS), OTHER)
