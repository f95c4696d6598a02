"""Finds the engines: every module of this package that defines `ENGINE`."""

from __future__ import annotations

import importlib
import pkgutil

import engines
from engines.base import Engine
from engines.errors import BadConfiguration

_NOT_ENGINES = frozenset({"base", "errors", "failure", "knob", "models", "registry", "sample"})


def engine_names() -> tuple[str, ...]:
    """Names of all engines, sorted. Importing none of them."""
    found = (module.name for module in pkgutil.iter_modules(engines.__path__) if not module.ispkg)
    return tuple(sorted(name for name in found if name not in _NOT_ENGINES and not name.startswith("_")))


def get_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        BadConfiguration: If there is none; the text lists those there are.
    """
    if name not in engine_names():
        raise BadConfiguration(f"engine {name!r} is unknown; there are: {', '.join(engine_names())}")
    engine = importlib.import_module(f"engines.{name}").ENGINE
    if not isinstance(engine, Engine):
        raise BadConfiguration(f"module engines.{name} defines no engine")
    return engine
