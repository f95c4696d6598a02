"""What an OpenAI-style `/v1/models` tells about the served model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines._http import get
from engines.errors import EngineError

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The first model of the list.

    Attributes:
        name: Name it is served under.
        owner: `owned_by`, which is the server's own name in vLLM, SGLang and LMDeploy.
        context_tokens: `max_model_len` where the server gives it, else 0.
    """

    name: str
    owner: str
    context_tokens: int


async def model_cards(http: aiohttp.ClientSession, url: str) -> list[Any]:
    """The list of models; its entries may be anything.

    Raises:
        Unreachable: If nobody answers.
        EngineError: If there is no such list.
    """
    answer = await get(http, f"{url}/v1/models")
    cards = cards_of(answer.json()) if answer.status == 200 else None
    if cards is None:
        raise EngineError(f"{answer.url} answers {answer.status} and no list of models; is it an OpenAI API?")
    return cards


def cards_of(models: object) -> list[Any] | None:
    """The entries of a page of models, or None when it is none."""
    cards = models.get("data") if isinstance(models, dict) else None
    return cards if isinstance(cards, list) else None


def first_of(cards: list[Any] | None) -> dict[str, Any]:
    """The first entry; an empty one when there is none."""
    return cards[0] if cards and isinstance(cards[0], dict) else {}


async def first_model(http: aiohttp.ClientSession, url: str) -> ModelCard:
    """Ask for the list of models.

    Raises:
        Unreachable: If nobody answers.
        EngineError: If there is no such list.
    """
    first = first_of(await model_cards(http, url))
    context = first.get("max_model_len")
    return ModelCard(
        name=str(first.get("id", "")),
        owner=str(first.get("owned_by", "")),
        context_tokens=context if type(context) is int and context > 0 else 0,
    )
