"""Greedy answers with their log-probabilities, from any server that speaks the OpenAI API."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import aiohttp

from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 120.0
"""For one answer."""

END: Final = ""
"""Stands for the end of an answer that the model chose itself."""

_WORD: Final = re.compile(r"\s*\S+")

Endpoint = Literal["completions", "chat"]


class NoAnswers(EngineError):
    """The server gives no answers that could be compared; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answers greedily.

    Attributes:
        pieces: Its tokens as texts; words where the server tells no tokens. `END` at the end when it ended by itself.
        logprobs: Log-probability of each piece; None where it is not known.
    """

    pieces: tuple[str, ...]
    logprobs: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is asked.

    Attributes:
        endpoint: Which endpoint. Only `completions` can go on from given words.
        logprobs: Whether it tells log-probabilities.
    """

    endpoint: Endpoint
    logprobs: bool

    @property
    def can_go_on(self) -> bool:
        """Whether it can be asked to go on from given words."""
        return self.endpoint == "completions"

    @property
    def label(self) -> str:
        """The way in words."""
        return f"{self.endpoint}{' with' if self.logprobs else ' without'} log-probabilities"


WAYS: Final = (Way("completions", True), Way("chat", True), Way("completions", False), Way("chat", False))
"""In the order in which they are tried: what tells most comes first."""


@dataclass(slots=True)
class Asker:
    """Asks one server.

    Attributes:
        http: Client.
        url: Base URL of the server.
        model: Model name to ask for.
        headers: Sent with every request.
        way: How it is asked; None: found out with the first question.
    """

    http: aiohttp.ClientSession
    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    way: Way | None = None

    async def ask(self, prompt: str, tokens: int) -> Answer:
        """The greedy answer to a prompt.

        Raises:
            NoAnswers: If the server gives none.
        """
        refused: list[str] = []
        for way in WAYS if self.way is None else (self.way,):
            told = await self._post(way, prompt, tokens)
            answer = None if isinstance(told, str) else _read(told, way)
            if answer is not None:
                self.way = way
                return answer
            refused.append(told if isinstance(told, str) else f"{way.label}: nothing to compare in the answer")
        raise NoAnswers(refused[0])

    async def _post(self, way: Way, prompt: str, tokens: int) -> dict[str, Any] | str:
        """The body of an answer, or why there is none."""
        body: dict[str, Any] = {"model": self.model, "max_tokens": tokens, "temperature": 0, "seed": 0, "stream": False}
        if way.endpoint == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
            body |= {"logprobs": True, "top_logprobs": 1} if way.logprobs else {}
        else:
            body["prompt"] = prompt
            body |= {"logprobs": 1} if way.logprobs else {}
        path = "/v1/chat/completions" if way.endpoint == "chat" else "/v1/completions"
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self.http.post(
                f"{self.url}{path}", json=body, headers=self.headers, timeout=timeout
            ) as response:
                if response.status != 200:
                    return f"{path} answers {response.status}: {(await response.text())[:200]}"
                told = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return f"{path}: {type(error).__name__} {error}".rstrip()
        return told if isinstance(told, dict) else f"{path}: the answer is no JSON object"


def _read(body: Mapping[str, Any], way: Way) -> Answer | None:
    """The answer in a body; None when it lacks what this way asks for."""
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"] if way.endpoint == "chat" else choice["text"]
        ended = choice.get("finish_reason") == "stop"
        pieces = (
            _tokens(choice.get("logprobs")) if way.logprobs else [(word, None) for word in _WORD.findall(text or "")]
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    if not pieces and not ended:
        return None
    if ended:
        pieces = [*pieces, (END, None)]
    return Answer(tuple(text for text, _ in pieces), tuple(logprob for _, logprob in pieces))


def _tokens(told: Any) -> list[tuple[str, float | None]]:
    """Tokens with their log-probabilities, in the form of chats (`content`) or of completions (`tokens`)."""
    if isinstance(told.get("content"), list):
        return [(str(each["token"]), _number(each.get("logprob"))) for each in told["content"]]
    return [
        (str(token), _number(logprob)) for token, logprob in zip(told["tokens"], told["token_logprobs"], strict=True)
    ]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
