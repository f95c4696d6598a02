"""A request inside the simulated engine: what was asked, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BlockHashes = tuple[int, ...]
"""One chained hash for each full block of a prompt: equal hashes mean an equal prefix."""


class FinishReason(StrEnum):
    """Why generation ended, in the OpenAI API's words."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request as the engine sees it.

    Attributes:
        prompt_tokens: prompt length.
        max_tokens: most tokens to generate.
        ignore_eos: generate exactly ``max_tokens``.
        min_tokens: fewest tokens before an end-of-sequence counts.
        block_hashes: hashes of the prompt's full blocks; empty when the prompt shares nothing.
    """

    prompt_tokens: int
    max_tokens: int
    ignore_eos: bool = True
    min_tokens: int = 0
    block_hashes: BlockHashes = ()


class RequestState:
    """A request's progress; read it, only the engine writes it.

    Attributes:
        id: number of the request, in order of submission.
        request: what was asked.
        arrival_ms: virtual time of submission.
        target_tokens: tokens that will be generated.
        generated_tokens: tokens generated so far.
        prefilled_tokens: tokens of the context already in the KV cache.
        context_tokens: tokens prefill must compute; grows when a paused request is recomputed.
        cached_tokens: prompt tokens found in the KV cache at admission.
        first_scheduled_ms: virtual time of the first iteration that held it, None before.
        first_token_ms: virtual time of the first token, None before.
        last_token_ms: virtual time of the newest token, None before.
        first_iteration: number of the first iteration that held it, -1 before.
        last_iteration: number of the newest iteration that held it, -1 before.
        finish_reason: None while it runs.
        pauses: how often it was evicted and recomputed.
        shared_hashes: KV blocks it holds together with others.
        private_blocks: KV blocks it holds alone.
        reserved_blocks: blocks promised to it by the capacity policy.
        in_flight: whether a pipeline stage is working on it.
        decoding: whether its context is complete.
        allocated_new_blocks: blocks ever allocated for it.
        reused_blocks: prompt blocks it found in the cache.
        missed_blocks: full prompt blocks it looked for in vain.
    """

    __slots__ = (
        "allocated_new_blocks", "arrival_ms", "cached_tokens", "context_tokens", "decoding", "finish_reason",
        "first_iteration", "first_scheduled_ms", "first_token_ms", "generated_tokens", "id", "in_flight",
        "last_iteration", "last_token_ms", "missed_blocks", "pauses", "prefilled_tokens", "private_blocks",
        "request", "reserved_blocks", "reused_blocks", "shared_hashes", "target_tokens",
    )  # fmt: skip

    def __init__(self, request_id: int, request: GenerationRequest, arrival_ms: float, target_tokens: int) -> None:
        self.id = request_id
        self.request = request
        self.arrival_ms = arrival_ms
        self.target_tokens = target_tokens
        self.generated_tokens = 0
        self.prefilled_tokens = 0
        self.context_tokens = request.prompt_tokens
        self.cached_tokens = 0
        self.first_scheduled_ms: float | None = None
        self.first_token_ms: float | None = None
        self.last_token_ms: float | None = None
        self.first_iteration = -1
        self.last_iteration = -1
        self.finish_reason: FinishReason | None = None
        self.pauses = 0
        self.shared_hashes: BlockHashes = ()
        self.private_blocks = 0
        self.reserved_blocks = 0
        self.in_flight = False
        self.decoding = False
        self.allocated_new_blocks = 0
        self.reused_blocks = 0
        self.missed_blocks = 0

    @property
    def sequence_tokens(self) -> int:
        """Prompt and generated tokens together."""
        return self.request.prompt_tokens + self.generated_tokens


def hash_blocks(token_ids: Sequence[int], tokens_per_block: int, salt: int = 0) -> BlockHashes:
    """Return the chained hashes of a prompt's full blocks.

    Args:
        token_ids: the prompt.
        tokens_per_block: block size of the KV cache.
        salt: prompts with different salts never share (``cache_salt``).
    """
    hashes: list[int] = []
    parent = salt
    for end in range(tokens_per_block, len(token_ids) + 1, tokens_per_block):
        parent = hash((parent, *token_ids[end - tokens_per_block : end]))
        hashes.append(parent)
    return tuple(hashes)
