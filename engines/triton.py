"""Triton Inference Server with TensorRT-LLM's LLM API: settings in `1/model.yaml` (contract triton section 3)."""

from __future__ import annotations

from typing import ClassVar

from engines._triton_backends import LLM_API, Backend
from engines._triton_engine import TritonEngine
from engines._triton_pbtxt import dump_pbtxt, parse_pbtxt
from engines._triton_repository import OWN_PARAMETERS, SETTINGS_PARAMETER


class Triton(TritonEngine):
    """Triton with the LLM API; `model` is the folder of a model repository."""

    name: ClassVar[str] = "triton"
    title: ClassVar[str] = "Triton with the LLM API"
    max_tokens_field: ClassVar[str] = "sampling_param_max_tokens"
    backend: ClassVar[Backend] = LLM_API


ENGINE = Triton()
"""What `engines.registry` finds."""


def is_copy(text: str) -> bool:
    """Whether a `config.pbtxt` is of a copy that trtune made."""
    return SETTINGS_PARAMETER in text


def portable_config(text: str, where: str) -> str:
    """A `config.pbtxt` of a copy that trtune made, without what it wrote in for itself.

    Raises:
        BadConfiguration: If it is not protobuf's text format.
    """
    config = parse_pbtxt(text, where)
    parameters = config.get("parameters")
    if isinstance(parameters, dict):
        config["parameters"] = {name: value for name, value in parameters.items() if name not in OWN_PARAMETERS}
    return dump_pbtxt(config)
