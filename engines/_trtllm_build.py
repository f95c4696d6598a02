"""The commands that make an engine for TensorRT-LLM's engine backend, and the folders they fill (contract trtllm 6).

A folder's name is a digest of everything that its content depends on, so that an engine is built once: trials that differ
only in settings read at the start share it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from engines._knobs import plain
from engines._trtllm_build_tables import BUILD, BUILD_KNOBS, CHECKPOINT_KNOBS, KV_QFORMAT, PP, QFORMAT, TP
from engines.launch.spec import OUTPUT, BuildStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engines.knob import Knob, Value
    from engines.launch.spec import LaunchRequest

EXAMPLES_VARIABLE = "TRTLLM_EXAMPLES"
USUAL_EXAMPLES = "/app/tensorrt_llm/examples"
"""Where NVIDIA's release containers keep the scripts."""

ENGINE_FILE = "rank0.engine"


def is_engine(folder: Path) -> bool:
    """Whether a folder holds a built engine."""
    return (folder / ENGINE_FILE).is_file()


def build_steps(request: LaunchRequest, version: str) -> tuple[BuildStep, ...]:
    """Convert the model to a checkpoint, and build the engine from it."""
    quantize = Path(request.environment.get(EXAMPLES_VARIABLE, USUAL_EXAMPLES)) / "quantization" / "quantize.py"
    settings = _settings(CHECKPOINT_KNOBS, request.params)
    checkpoint = request.build_dir / f"checkpoint-{_digest(version, _identity(request.model), settings)}"
    built = _settings(BUILD_KNOBS, request.params)
    engine = request.build_dir / f"engine-{_digest(checkpoint.name, built)}"
    return (
        BuildStep(
            "quantize",
            (
                *("python3", str(quantize), "--model_dir", request.model, "--output_dir", OUTPUT),
                *_checkpoint_words(request.params),
            ),
            checkpoint,
        ),
        BuildStep(
            "build",
            (
                "trtllm-build",
                "--checkpoint_dir",
                str(checkpoint),
                "--output_dir",
                OUTPUT,
                *_build_words(request.params),
            ),
            engine,
        ),
    )


def build_key(params: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """What an engine depends on among the settings: configurations with the same key share an engine."""
    return tuple(sorted(_settings((*CHECKPOINT_KNOBS, *BUILD_KNOBS), params).items()))


def _settings(knobs: Iterable[Knob], params: Mapping[str, Value]) -> dict[str, Value]:
    """The knobs' values with defaults filled in, so that naming a default makes no other engine."""
    return {knob.name: plain(knob, params.get(knob.name, knob.default)) for knob in knobs}


def _checkpoint_words(params: Mapping[str, Value]) -> tuple[str, ...]:
    values = _settings(CHECKPOINT_KNOBS, params)
    words = [
        *("--dtype", str(values["quantize.dtype"]), "--qformat", str(values[QFORMAT])),
        *("--tp_size", str(values[TP]), "--pp_size", str(values[PP])),
    ]
    if values[KV_QFORMAT] is not None:
        words += ["--kv_cache_dtype", str(values[KV_QFORMAT])]
    for name in ("calib_size", "awq_block_size"):
        if params.get(f"quantize.{name}") is not None:
            words += [f"--{name}", str(values[f"quantize.{name}"])]
    return tuple(words)


def _build_words(params: Mapping[str, Value]) -> tuple[str, ...]:
    """Flags that differ from the program's own defaults: switches are `enable` and `disable`."""
    words: list[str] = []
    for knob in BUILD_KNOBS:
        value = plain(knob, params.get(knob.name))
        if value is None or any(
            params.get(name, None) not in (None, *allowed) for name, allowed in knob.requires.items()
        ):
            continue
        flag = f"--{knob.name.removeprefix(BUILD)}"
        if knob.name == f"{BUILD}weight_streaming":
            words += [flag] if value else []
        else:
            words += [flag, {True: "enable", False: "disable"}[value] if isinstance(value, bool) else str(value)]
    return tuple(words)


def _identity(model: str) -> str:
    """A model's name or folder; of a folder also when its description was last written."""
    description = Path(model) / "config.json"
    return f"{model}@{description.stat().st_mtime_ns}" if description.is_file() else model


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
