"""What the pretend model answers at temperature 0: the same words for the same text, and others where quantisation made it err.

An answer is as long as it may be and depends on the text before it alone, so that a client can put words into the model's mouth
and see what comes next, as it can with a real model. A precision below BF16 changes a share of the next words (`LOSS`) and
moves the log-probabilities of the others; which ones is fixed. The shares are made up, in the order in which quantisation is
known to hurt; `--sim-answer-loss` sets others.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engines.simulated.tokens import WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.simulated.model import Simulation

LOSS: Final[Mapping[str, float]] = {"fp8": 0.01, "nvfp4": 0.03, "int4-awq": 0.04}
"""Share of next words that differ from the unaltered model's, by precision; the same again for a KV cache of that precision."""

_SCALE: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class GreedyModel:
    """The pretend model at one precision.

    Attributes:
        losses: Share of changed words for each way in which the model was altered.
    """

    losses: Mapping[str, float]

    @classmethod
    def of(cls, simulation: Simulation, shares: Mapping[str, float]) -> GreedyModel:
        """The model that a simulated engine serves.

        Args:
            simulation: Says which precisions.
            shares: By precision, in the place of those in LOSS.
        """
        table = {**LOSS, **shares}
        checkpoint = simulation.checkpoint
        kv = simulation.config.kv_precision or checkpoint.kv_precision
        ways = {"weights": checkpoint.weight_precision, "kv": kv}
        return cls(
            {f"{way} {precision}": share for way, precision in ways.items() if (share := table.get(precision, 0.0))}
        )

    def answer(self, text: str, count: int) -> list[tuple[str, float]]:
        """Words and their log-probabilities after a text."""
        told: list[tuple[str, float]] = []
        so_far = zlib.crc32(text.encode())
        for _ in range(count):
            word, logprob = self._next(so_far)
            told.append((word, logprob))
            so_far = zlib.crc32(word.encode(), so_far)
        return told

    def rewrite(self, answer: dict[str, Any], texts: Sequence[str], *, logprobs: bool) -> None:
        """Put the greedy words into the body of a whole answer, in the place of the usual filler.

        Args:
            answer: The body; its choices have a text or a message.
            texts: Prompt of each choice.
            logprobs: Whether log-probabilities were asked for.
        """
        for choice, text in zip(answer["choices"], texts, strict=False):
            told = self.answer(text, answer["usage"]["completion_tokens"] // len(answer["choices"]))
            words = "".join(word for word, _ in told)
            if "message" in choice:
                choice["message"]["content"] = words
                content = [{"token": word, "logprob": logprob, "top_logprobs": []} for word, logprob in told]
                choice["logprobs"] = {"content": content} if logprobs else None
            else:
                choice["text"] = words
                legacy = {"tokens": [word for word, _ in told], "token_logprobs": [each for _, each in told]}
                choice["logprobs"] = legacy if logprobs else None

    def _next(self, so_far: int) -> tuple[str, float]:
        word = int(_chance(so_far, "word") * len(WORDS)) % len(WORDS)
        logprob = -0.02 - 1.5 * _chance(so_far, "sure") ** 2
        for way, share in self.losses.items():
            if _chance(so_far, way) < share:
                word = (word + 1 + int(_chance(so_far, f"{way} word") * (len(WORDS) - 1))) % len(WORDS)
            logprob += 2 * share * (_chance(so_far, f"{way} sure") - 0.5)
        return WORDS[word], logprob


def _chance(so_far: int, what: str) -> float:
    """A number from 0 to 1 that the text so far (by its checksum) and a question always give again."""
    return zlib.crc32(f"{what}|{so_far * 2654435761 & _SCALE}".encode()) / _SCALE


def parse_losses(texts: Sequence[str]) -> dict[str, float]:
    """Read `fp8=0.3` and the like.

    Raises:
        ValueError: a precision is unknown, or a share none.
    """
    told: dict[str, float] = {}
    for text in texts:
        name, _, share = text.partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if name not in LOSS or not 0 <= value <= 1:
            raise ValueError(f"{text!r}: write PRECISION=SHARE, a share from 0 to 1 and one of {', '.join(LOSS)}")
        told[name] = value
    return told
