"""trtune: see what an LLM inference server is doing, and find the settings that serve your workload best."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.search.search import Search

__all__ = ["Search", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """What scripts import from here, loaded when it is asked for: `import trtune` stays cheap."""
    if name == "Search":
        from tuner.search.search import Search

        return Search
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
