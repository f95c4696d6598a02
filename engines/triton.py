"""Triton Inference Server with TensorRT-LLM's LLM API: settings in `1/model.yaml` (contract triton section 3)."""

from __future__ import annotations

from typing import ClassVar

from engines._triton_backends import LLM_API, Backend
from engines._triton_engine import TritonEngine


class Triton(TritonEngine):
    """Triton with the LLM API; `model` is the folder of a model repository."""

    name: ClassVar[str] = "triton"
    title: ClassVar[str] = "Triton with the LLM API"
    max_tokens_field: ClassVar[str] = "sampling_param_max_tokens"
    backend: ClassVar[Backend] = LLM_API


ENGINE = Triton()
"""What `engines.registry` finds."""
