"""Greedy answers with their log-probabilities, from a server that speaks the OpenAI API, or Triton's `generate`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from engines._http import post
from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

TIMEOUT_S: Final = 120.0
"""For one answer."""

END: Final = ""
"""Stands for the end of an answer that the model chose itself."""

_WORD: Final = re.compile(r"\s*\S+")

Endpoint = Literal["completions", "chat", "generate"]


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
        endpoint: Which endpoint. `chat` cannot go on from given words.
        logprobs: Whether it tells log-probabilities.
    """

    endpoint: Endpoint
    logprobs: bool

    @property
    def can_go_on(self) -> bool:
        """Whether it can be asked to go on from given words."""
        return self.endpoint != "chat"

    @property
    def label(self) -> str:
        """The way in words."""
        return f"{self.endpoint}{' with' if self.logprobs else ' without'} log-probabilities"


WAYS: Final = (Way("completions", True), Way("chat", True), Way("completions", False), Way("chat", False))
"""In the order in which they are tried: what tells most comes first."""

TRITON_WAYS: Final = (Way("generate", False),)
"""How Triton is asked: its backends name their log-probabilities each in their own way, and no tokens with them."""

_PATHS: Final[Mapping[Endpoint, str]] = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
    "generate": "/v2/models/{model}/generate",
}


@dataclass(slots=True)
class Asker:
    """Asks one server.

    Attributes:
        http: Client; it sends what proves that we may ask.
        url: Base URL of the server.
        model: Model name to ask for.
        way: How it is asked; None: found out with the first question.
        ways: Those that are tried then.
        max_tokens_field: What Triton's backend calls the length limit.
    """

    http: aiohttp.ClientSession
    url: str
    model: str
    way: Way | None = None
    ways: Sequence[Way] = WAYS
    max_tokens_field: str = "max_tokens"

    async def ask(self, prompt: str, tokens: int) -> Answer:
        """The greedy answer to a prompt.

        Raises:
            NoAnswers: If the server gives none.
        """
        refused: list[str] = []
        for way in self.ways if self.way is None else (self.way,):
            told = await self._post(way, prompt, tokens)
            answer = None if isinstance(told, str) else _read(told, way, prompt)
            if answer is not None:
                self.way = way
                return answer
            refused.append(told if isinstance(told, str) else f"{way.label}: nothing to compare in the answer")
        raise NoAnswers(refused[0])

    async def _post(self, way: Way, prompt: str, tokens: int) -> dict[str, Any] | str:
        """The body of an answer, or why there is none."""
        path, body = _PATHS[way.endpoint].format(model=self.model), self._question(way, prompt, tokens)
        try:
            answer = await post(self.http, f"{self.url}{path}", body, TIMEOUT_S)
            if answer.status != 200:
                return f"{path} answers {answer.status}: {answer.text()[:200]}"
            told = answer.json()
        except EngineError as error:
            return str(error)
        return told if isinstance(told, dict) else f"{path}: the answer is no JSON object"

    def _question(self, way: Way, prompt: str, tokens: int) -> dict[str, Any]:
        if way.endpoint == "generate":
            return _generate_question(prompt, tokens, self.max_tokens_field)
        body: dict[str, Any] = {"model": self.model, "max_tokens": tokens, "temperature": 0, "seed": 0, "stream": False}
        if way.endpoint == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
            return body | ({"logprobs": True, "top_logprobs": 1} if way.logprobs else {})
        return body | {"prompt": prompt} | ({"logprobs": 1} if way.logprobs else {})


def _generate_question(prompt: str, tokens: int, max_tokens_field: str) -> dict[str, Any]:
    """Triton's fields (contract triton 3.2, 4.2 and 5): the best token only is greedy in all three backends.

    The LLM API has its own names; a field that the C++ backend and vLLM's have no input for becomes a request parameter, which
    vLLM's reads as a sampling option and the other passes over.
    """
    if max_tokens_field.startswith("sampling_param_"):
        return {"text_input": prompt, max_tokens_field: tokens, "sampling_param_top_k": 1, "streaming": False}
    return {"text_input": prompt, max_tokens_field: tokens, "top_k": 1, "stream": False}


def _read(body: Mapping[str, Any], way: Way, prompt: str) -> Answer | None:
    """The answer in a body; None when it lacks what this way asks for."""
    try:
        if way.endpoint == "generate":
            text = body["text_output"].removeprefix(prompt)  # the C++ backend gives it back unless told otherwise
            pieces, ended = _words(text), not text
        else:
            choice = body["choices"][0]
            text = choice["message"]["content"] if way.endpoint == "chat" else choice["text"]
            ended = choice.get("finish_reason") == "stop"
            pieces = _tokens(choice.get("logprobs")) if way.logprobs else _words(text or "")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    if not pieces and not ended:
        return None
    if ended:
        pieces = [*pieces, (END, None)]
    return Answer(tuple(text for text, _ in pieces), tuple(logprob for _, logprob in pieces))


def _words(text: str) -> list[tuple[str, float | None]]:
    return [(word, None) for word in _WORD.findall(text)]


def _tokens(told: Any) -> list[tuple[str, float | None]]:
    """Tokens with their log-probabilities, in the form of chats (`content`) or of completions (`tokens`)."""
    if isinstance(told.get("content"), list):
        return [(str(each["token"]), _number(each.get("logprob"))) for each in told["content"]]
    return [
        (str(token), _number(logprob)) for token, logprob in zip(told["tokens"], told["token_logprobs"], strict=True)
    ]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
