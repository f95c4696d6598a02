"""A knob with the versions that have it, and values that several tables of knobs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines._trtllm_versions import OLDEST, parse_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engines._trtllm_versions import Version
    from engines.knob import Knob

GRAPHS_ON = "cuda_graph_config.enabled"
"""Ours, not the server's: False writes `cuda_graph_config: null`, which turns decode CUDA graphs off."""

GRAPH_BATCH_SIZE = "cuda_graph_config.max_batch_size"
GRAPH_BATCH_SIZES = "cuda_graph_config.batch_sizes"

COMPILE_ON = "torch_compile_config.enabled"
"""Ours: True writes the object `torch_compile_config`, which turns torch.compile on."""

SWITCHES = (GRAPHS_ON, COMPILE_ON)
"""Knobs that stand for the presence of an object in the YAML."""

DEFAULT_GRAPH_BATCH_SIZE = 128
DEFAULT_BATCH_SIZE = 2048
DEFAULT_TOKEN_BUDGET = 8192
DEFAULT_TOKENS_PER_BLOCK = 32

BATCH_SIZES = (4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
TOKEN_BUDGETS = (1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768)
PARALLEL_SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class VersionedKnob:
    """A knob, the first version line whose YAML takes its key in this form, and the first that no longer does."""

    knob: Knob
    since: Version = OLDEST
    until: Version | None = None


def in_force(table: Iterable[VersionedKnob], version: str) -> tuple[Knob, ...]:
    """The knobs of a version; those of the newest when the version is unknown."""
    line = parse_version(version)
    if line is None:
        return tuple(entry.knob for entry in table if entry.until is None)
    return tuple(entry.knob for entry in table if entry.since <= line and (entry.until is None or line < entry.until))
