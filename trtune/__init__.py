"""trtune: see what an LLM inference server is doing, and find the settings that serve your workload best."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trtune.session import Session, open_session
    from tuner.search.search import Search

__all__ = ["Search", "Session", "__version__", "open_session"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """What scripts import from here, loaded when it is asked for: `import trtune` stays cheap."""
    if name == "Search":
        from tuner.search.search import Search

        return Search
    if name in ("Session", "open_session"):
        import trtune.session

        return getattr(trtune.session, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
