"""The paged KV cache: blocks that are held alone, shared by prefix, kept for reuse, or empty."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.simulated.model.requests import BlockHashes, RequestState


@dataclass(frozen=True, slots=True)
class KvSnapshot:
    """The pool at one moment; the four counters run since start (contract section 2.4, ``kvCacheStats``).

    Attributes:
        max_blocks: capacity.
        free_blocks: empty blocks and cached ones that may be evicted.
        used_blocks: blocks some running request holds.
        tokens_per_block: block size.
        alloc_total_blocks: blocks handed out, shared ones included.
        alloc_new_blocks: blocks handed out empty.
        reused_blocks: prompt blocks found in the cache.
        missed_blocks: prompt blocks looked for in vain.
    """

    max_blocks: int
    free_blocks: int
    used_blocks: int
    tokens_per_block: int
    alloc_total_blocks: int
    alloc_new_blocks: int
    reused_blocks: int
    missed_blocks: int


class KvPool:
    """Block bookkeeping with reference-counted prefixes and least-recently-used eviction.

    A block is in exactly one of four places: empty, private to one request, shared (in ``_references``), or cached for
    reuse with nobody holding it (in ``_evictable``).
    """

    def __init__(self, max_blocks: int, tokens_per_block: int, enable_reuse: bool) -> None:
        self.max_blocks = max_blocks
        self.tokens_per_block = tokens_per_block
        self._enable_reuse = enable_reuse
        self._empty_blocks = max_blocks
        self._references: dict[int, int] = {}
        self._evictable: OrderedDict[int, None] = OrderedDict()
        self._alloc_total = 0
        self._alloc_new = 0
        self._reused = 0
        self._missed = 0

    @property
    def free_blocks(self) -> int:
        """Blocks that can be handed out now, evicting cached ones if need be."""
        return self._empty_blocks + len(self._evictable)

    @property
    def used_blocks(self) -> int:
        """Blocks held by requests."""
        return self.max_blocks - self.free_blocks

    def blocks_for(self, tokens: int) -> int:
        """Return the blocks that this many tokens fill."""
        return -(-tokens // self.tokens_per_block)

    def match(self, hashes: BlockHashes, context_tokens: int) -> tuple[BlockHashes, int]:
        """Find the cached prefix of a prompt.

        At least one token of the context is left to compute, because the last one's logits are needed.

        Returns:
            The hashes that are cached, and how many of them somebody holds already (and so cost no free block).
        """
        if not self._enable_reuse:
            return (), 0
        limit = min(len(hashes), (context_tokens - 1) // self.tokens_per_block)
        held = 0
        count = 0
        for block in hashes[:limit]:
            if block in self._references:
                held += 1
            elif block not in self._evictable:
                break
            count += 1
        return hashes[:count], held

    def acquire(self, state: RequestState, matched: BlockHashes, looked_up: int) -> None:
        """Let a request share the blocks ``match`` found; ``looked_up`` full blocks were asked for."""
        for block in matched:
            references = self._references.get(block, 0)
            if not references:
                del self._evictable[block]
            self._references[block] = references + 1
        state.shared_hashes = matched
        hits = len(matched)
        self._alloc_total += hits
        if self._enable_reuse:
            misses = max(0, looked_up - hits)
            self._reused += hits
            self._missed += misses
            state.reused_blocks += hits
            state.missed_blocks += misses

    def allocate(self, state: RequestState, blocks: int) -> bool:
        """Give a request empty blocks, evicting cached ones if need be; False, and nothing given, if too few."""
        if blocks > self.free_blocks:
            return False
        while self._empty_blocks < blocks:
            self._evictable.popitem(last=False)
            self._empty_blocks += 1
        self._empty_blocks -= blocks
        state.private_blocks += blocks
        state.allocated_new_blocks += blocks
        self._alloc_total += blocks
        self._alloc_new += blocks
        return True

    def publish(self, state: RequestState) -> None:
        """Make a prefilled prompt's full blocks shareable; a block somebody published before stays private."""
        if not self._enable_reuse:
            return
        shared = len(state.shared_hashes)
        hashes = state.request.block_hashes
        published = shared
        for block in hashes[shared:]:
            if block in self._references or block in self._evictable or not state.private_blocks:
                break
            self._references[block] = 1
            state.private_blocks -= 1
            published += 1
        state.shared_hashes = hashes[:published]

    def release(self, state: RequestState) -> None:
        """Take everything back from a request; what it published stays cached."""
        self._empty_blocks += state.private_blocks
        state.private_blocks = 0
        # Last block first: eviction then takes a prefix from its end, as long as its beginning is still useful.
        for block in reversed(state.shared_hashes):
            references = self._references[block] - 1
            if references:
                self._references[block] = references
            else:
                del self._references[block]
                self._evictable[block] = None
        state.shared_hashes = ()

    def snapshot(self) -> KvSnapshot:
        """Return the pool's numbers now."""
        free = self.free_blocks
        return KvSnapshot(
            self.max_blocks,
            free,
            self.max_blocks - free,
            self.tokens_per_block,
            self._alloc_total,
            self._alloc_new,
            self._reused,
            self._missed,
        )
