"""The backends a model may name, and how each one's files become settings of the simulated engine.

Sources: triton.md sections 3 (LLM API), 4 (C++ backend) and 5 (vLLM).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from engines.models import Checkpoint, ModelShapeError, load_checkpoint
from engines.simulated.model import CapacityPolicy, ConfigurationError, EngineConfig
from engines.simulated.trtllm.arguments import validate_arguments
from engines.simulated.trtllm.engine_settings import engine_config
from engines.simulated.trtllm.versions import ServerVersion
from engines.simulated.vllm.command_line import parse_command
from engines.simulated.vllm.engine_settings import RefusedError, kv_budget_tokens, settle
from engines.simulated.vllm.flags import PLAIN_SWITCHES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.gpu.hardware import GpuSpec
    from engines.simulated.triton.repository import ModelFiles

_LLM_API_VERSION: Final = ServerVersion(1, 3, 0, 20)
"""TensorRT-LLM of the containers whose LLM API is imitated."""


class Kind(StrEnum):
    """What stands behind a model."""

    LLM_API = "llmapi"
    ENGINE = "tensorrtllm"
    VLLM = "vllm"
    FRONT = "front"
    """An ensemble, or pre- and postprocessing: hands requests to the engine of the same repository."""


class LoadError(Exception):
    """A model's backend refuses to start; the message is the backend's."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What a model's files ask for.

    Attributes:
        kind: what stands behind it.
        config: settings of the simulated engine, None for a front.
        checkpoint: its model, None for a front.
        decoupled: whether it may answer a request more than once.
        reports_metrics: whether its own families are on the metrics page.
    """

    kind: Kind
    config: EngineConfig | None
    checkpoint: Checkpoint | None
    decoupled: bool
    reports_metrics: bool


def kind_of(files: ModelFiles) -> Kind:
    """Return what stands behind a model."""
    backend = files.config.get("backend")
    if backend == "tensorrtllm":
        return Kind.ENGINE
    if backend == "vllm":
        return Kind.VLLM
    return Kind.LLM_API if "1/model.yaml" in files.files else Kind.FRONT


def required_file(kind: Kind) -> str | None:
    """Return the file without which an override of that kind hangs the load (measured for Python models)."""
    return {Kind.LLM_API: "1/model.py", Kind.VLLM: "1/model.json"}.get(kind)


def read_backing(files: ModelFiles, gpu: GpuSpec, gpu_count: int, *, auto_complete: bool) -> Backing:
    """Return what a model's files ask for.

    Args:
        files: configuration and files.
        gpu: the GPU with the memory that is free now.
        gpu_count: GPUs of the host.
        auto_complete: whether the model may set its own transaction policy.

    Raises:
        LoadError: the backend refuses the settings.
    """
    kind = kind_of(files)
    policy = files.config.get("model_transaction_policy", {})
    decoupled = bool(policy.get("decoupled"))
    try:
        if kind is Kind.LLM_API:
            return _llm_api(files, decoupled, auto_complete)
        if kind is Kind.ENGINE:
            return _engine(files, decoupled)
        if kind is Kind.VLLM:
            return _vllm(files, gpu, gpu_count)
    except (ValidationError, ModelShapeError, ConfigurationError, RefusedError) as error:
        raise LoadError(f"{type(error).__name__}: {error}") from error
    return Backing(kind, None, None, decoupled, reports_metrics=False)


def _llm_api(files: ModelFiles, decoupled: bool, auto_complete: bool) -> Backing:
    try:
        settings = yaml.safe_load(files.files["1/model.yaml"])
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LoadError(f"yaml.scanner.ScannerError: {error}") from error
    if not isinstance(settings, dict) or not settings.get("model"):
        raise LoadError("AssertionError: 'model' is missing in model.yaml")
    own = settings.pop("triton_config", None) or {}
    arguments = validate_arguments(settings, _LLM_API_VERSION)
    checkpoint = load_checkpoint(str(settings["model"]))
    streams = decoupled or (auto_complete and bool(own.get("decoupled")))
    return Backing(Kind.LLM_API, engine_config(arguments, checkpoint), checkpoint, streams, reports_metrics=False)


def _engine(files: ModelFiles, decoupled: bool) -> Backing:
    """Read the C++ backend's parameters; batch, budget and parallelism are those the engine was built with."""
    given = {name: str(entry.get("string_value", "")) for name, entry in files.config.get("parameters", {}).items()}
    path = given.get("gpt_model_path") or given.get("engine_dir", "")
    if not path:
        raise LoadError("[TensorRT-LLM][ERROR] gpt_model_path is not set in config.pbtxt")
    checkpoint = load_checkpoint(path)
    tokens = given.get("max_tokens_in_paged_kv_cache", "")
    config = EngineConfig(
        max_batch_size=max(1, int(files.config.get("max_batch_size", 0) or 2048)),
        free_gpu_memory_fraction=_number(given, "kv_cache_free_gpu_mem_fraction", 0.9),
        kv_max_tokens=int(tokens) if tokens.isdigit() and int(tokens) else None,
        capacity_policy=CapacityPolicy.MAX_UTILIZATION
        if given.get("batch_scheduler_policy", given.get("batching_strategy")) == "max_utilization"
        else CapacityPolicy.GUARANTEED_NO_EVICT,
        enable_block_reuse=given.get("enable_kv_cache_reuse", "true").lower() != "false",
        enable_chunked_prefill=given.get("enable_chunked_context", "false").lower() == "true",
        tokens_per_block=64,
    )
    return Backing(Kind.ENGINE, config, checkpoint, decoupled, reports_metrics=True)


def _number(given: Mapping[str, str], name: str, default: float) -> float:
    text = given.get(name, "")
    try:
        value = float(text) if text and not text.startswith("${") else default
    except ValueError as error:
        raise LoadError(f"[TensorRT-LLM][ERROR] parameter {name}: {text!r} is not a number") from error
    if not 0.0 < value <= 1.0:
        raise LoadError(f"[TensorRT-LLM][ERROR] parameter {name}: {text!r} must be in (0, 1]")
    return value


def _vllm(files: ModelFiles, gpu: GpuSpec, gpu_count: int) -> Backing:
    try:
        settings = json.loads(files.files["1/model.json"])
    except (KeyError, ValueError) as error:
        raise LoadError(f"json.decoder.JSONDecodeError: {error}") from error
    if not isinstance(settings, dict) or not settings.get("model"):
        raise LoadError("TypeError: AsyncEngineArgs: model is missing")
    try:
        command = parse_command(_words(settings))
    except SystemExit as error:
        raise LoadError("TypeError: AsyncEngineArgs.__init__() got an unexpected keyword argument") from error
    settled = settle(command, load_checkpoint(command.model), gpu, gpu_count)
    tokens, _ = kv_budget_tokens(command, settled, gpu)
    parameters = files.config.get("parameters", {})
    reports = parameters.get("REPORT_CUSTOM_METRICS", {}).get("string_value") in ("yes", "true")
    return Backing(
        Kind.VLLM,
        replace(settled.config, kv_max_tokens=tokens),
        settled.checkpoint,
        decoupled=True,
        reports_metrics=reports and not settings.get("disable_log_stats", False),
    )


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Return AsyncEngineArgs as the options of the same names."""
    words: list[str] = []
    for name, value in settings.items():
        option = f"--{name}"
        if name.replace("_", "-") in PLAIN_SWITCHES:
            words += [option] if value else []
        elif isinstance(value, bool):
            words.append(option if value else f"--no-{name}")
        elif isinstance(value, list):
            words += [option, *map(str, value)]
        elif value is not None:
            words.append(f"{option}={value}")
    return words
