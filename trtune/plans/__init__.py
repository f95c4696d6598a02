"""Plans that come with trtune."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any


def demo_tables() -> dict[str, Any]:
    """The demo's plan: the simulated server, started with the Python that runs trtune."""
    return tomllib.loads((files(__name__) / "demo.toml").read_text(encoding="utf-8"))
