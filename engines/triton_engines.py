"""Triton Inference Server with TensorRT-LLM's C++ backend: settings in `config.pbtxt` (contract triton section 4)."""

from __future__ import annotations

from typing import ClassVar

from engines._triton_backends import ENGINES, Backend
from engines._triton_engine import TritonEngine


class TritonEngines(TritonEngine):
    """Triton with built engines; `model` is the folder of a model repository."""

    name: ClassVar[str] = "triton_engines"
    title: ClassVar[str] = "Triton with built engines"
    backend: ClassVar[Backend] = ENGINES


ENGINE = TritonEngines()
"""What `engines.registry` finds."""
