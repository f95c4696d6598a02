"""Plans that come with trtune."""

from __future__ import annotations

import sys
import tomllib
from importlib.resources import files
from typing import Any


def demo_tables() -> dict[str, Any]:
    """The demo's plan: the simulated server, started with this Python."""
    tables = tomllib.loads((files(__name__) / "demo.toml").read_text(encoding="utf-8"))
    tables["engine"]["command"] = [sys.executable, "-m", "engines.simulated"]
    return tables
