"""Folders that servers fill for their next start (compiled kernels, graphs): one set for each lane, kept between trials.

Two servers that compile at the same time must not write to the same files; a server that starts again on its lane finds what
it compiled before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CACHE_VARIABLES: Final[Mapping[str, str]] = {
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "VLLM_CACHE_ROOT": "vllm",
}
"""Environment variable that names a cache, to the folder's name (documentation of FlashInfer, PyTorch, Triton, vLLM)."""


def cache_environment(lane: int, environment: Mapping[str, str], root: Path | None = None) -> dict[str, str]:
    """Variables that give a lane caches of its own. Lane 0 keeps the usual ones, and so does whoever has set them.

    Args:
        lane: Number of the lane.
        environment: The variables in force.
        root: Where the folders are; None: the user's cache folder.
    """
    if lane == 0:
        return {}
    root = root or platformdirs.user_cache_path("trtune") / "lanes"
    return {name: str(root / str(lane) / folder) for name, folder in CACHE_VARIABLES.items() if name not in environment}
