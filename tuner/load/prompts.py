"""Prompts of wanted length from a seed, as text or as token ids, with shared beginnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tuner.load.words import COMMON_WORDS, single_token_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.load.spec import Endpoint, Workload

Prompt = str | list[int]
"""Text, or token ids."""

_FIRST_TOKEN_ID = 1000
"""Lower ids are special tokens or single bytes in usual vocabularies."""

_LEVEL_SALT, _PREFIX_SALT, _BLOCK_SALT = 1, 2, 3


class PromptMaker:
    """Makes prompts; the same seed and numbers give the same prompts."""

    def __init__(self, workload: Workload, endpoint: Endpoint) -> None:
        """Prepare the vocabulary.

        Raises:
            BadWorkload: If the endpoint names a tokenizer that cannot be used.
        """
        self._workload = workload
        self._as_tokens = endpoint.token_prompts
        words = single_token_words(endpoint.tokenizer) if endpoint.tokenizer else COMMON_WORDS
        self._words = np.array(words, dtype=object)
        self._first_id = min(_FIRST_TOKEN_ID, endpoint.vocabulary_size // 2)
        self._vocabulary_size = endpoint.vocabulary_size
        self._prefixes: dict[int, Prompt] = {}
        self._blocks: dict[int, Prompt] = {}

    def rng(self, level: int) -> np.random.Generator:
        """The random numbers of a level, told apart by `level`."""
        return np.random.default_rng([self._workload.seed, _LEVEL_SALT, level])

    def fresh(self, rng: np.random.Generator, tokens: int) -> Prompt:
        """A prompt that shares nothing with others."""
        if self._as_tokens:
            ids: list[int] = rng.integers(self._first_id, self._vocabulary_size, tokens).tolist()
            return ids
        return " ".join(self._words[rng.integers(0, len(self._words), tokens)])

    def with_prefix(self, rng: np.random.Generator, tokens: int) -> Prompt:
        """A prompt that may begin as others do, as the workload says; `tokens` includes the beginning."""
        prefix = self._workload.prefix
        if prefix is None or rng.random() >= prefix.share_ratio:
            return self.fresh(rng, tokens)
        number = int(rng.integers(0, prefix.pool))
        shared = self._prefixes.get(number)
        if shared is None:
            shared = self._prefixes[number] = self._numbered(_PREFIX_SALT, number, prefix.tokens)
        own = max(tokens - prefix.tokens, 1)
        return join([shared, self.fresh(rng, own)])

    def from_blocks(self, rng: np.random.Generator, hash_ids: Sequence[int], block_tokens: int, tokens: int) -> Prompt:
        """A prompt made of numbered blocks, as Mooncake traces describe it: equal ids, equal text.

        The last block may be filled in part only; what is beyond the blocks is fresh.
        """
        parts: list[Prompt] = []
        left = tokens
        for hash_id in hash_ids:
            if left <= 0:
                break
            block = self._blocks.get(hash_id)
            if block is None:
                block = self._blocks[hash_id] = self._numbered(_BLOCK_SALT, hash_id, block_tokens)
            parts.append(block if left >= block_tokens else _beginning(block, left))
            left -= block_tokens
        if left > 0:
            parts.append(self.fresh(rng, left))
        return join(parts)

    def _numbered(self, salt: int, number: int, tokens: int) -> Prompt:
        return self.fresh(np.random.default_rng([self._workload.seed, salt, number]), tokens)


def _beginning(prompt: Prompt, tokens: int) -> Prompt:
    """The first tokens of a prompt that we have made: of a text, its first words."""
    return " ".join(prompt.split(" ", tokens)[:tokens]) if isinstance(prompt, str) else prompt[:tokens]


def join(parts: Sequence[Prompt]) -> Prompt:
    """Prompts one after the other; all text or all token ids."""
    if isinstance(parts[0], str):
        return " ".join(part for part in parts if isinstance(part, str))
    return [token for part in parts if not isinstance(part, str) for token in part]
