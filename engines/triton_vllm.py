"""Triton Inference Server with vLLM: settings in `1/model.json` (contract triton section 5)."""

from __future__ import annotations

from typing import ClassVar

from engines._triton_backends import VLLM, Backend
from engines._triton_engine import TritonEngine


class TritonVllm(TritonEngine):
    """Triton with vLLM; `model` is the folder of a model repository."""

    name: ClassVar[str] = "triton_vllm"
    title: ClassVar[str] = "Triton with vLLM"
    backend: ClassVar[Backend] = VLLM


ENGINE = TritonVllm()
"""What `engines.registry` finds."""
