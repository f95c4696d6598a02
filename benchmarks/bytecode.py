"""Bytecode of our packages, as pip writes it when it installs them: a start that compiles them first is not what users have."""

from __future__ import annotations

import compileall
from pathlib import Path

PACKAGES = ("engines", "sessions", "trtune", "tui", "tuner")


def compile_packages() -> None:
    """Write the bytecode of every module that has none yet, even where Python was told to write none by itself."""
    for package in PACKAGES:
        compileall.compile_dir(Path(__file__).parent.parent / package, quiet=1)
