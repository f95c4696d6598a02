"""Knobs of a small made-up server, for tests of the search."""

from __future__ import annotations

from engines.knob import Knob

KNOBS = (
    Knob("batch", "int", default=8, low=1, high=256, log=True, searched=True),
    Knob("tokens", "int", default=8192, low=256, high=32768, log=True),
    Knob("fraction", "float", default=0.9, low=0.0, high=1.0),
    Knob("chunked", "bool", default=False, searched=True),
    Knob("policy", "choice", default="a", choices=("a", "b"), requires={"chunked": (True,)}),
    Knob("length", "int", default=None, low=1, high=100_000),
)
