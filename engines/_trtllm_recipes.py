"""NVIDIA's curated configurations of TensorRT-LLM: `examples/configs` of a checkout (contract trtllm 5.9).

`database/lookup.yaml` and `curated/lookup.yaml` list them with model, GPU and workload; without a list the names of folders
and files tell the same: `database/OWNER/MODEL/GPU/8k1k_tp8_conc64.yaml`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines._recipes import Recipe, gpu_names
from engines._trtllm_yaml import LARGEST_FILE_BYTES, flat_settings, read_settings
from engines._yaml import load_yaml
from engines.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engines.knob import Knob, Value

LISTS = ("database/lookup.yaml", "curated/lookup.yaml", "lookup.yaml")
CHECKOUT_FOLDER = Path("examples/configs")
OWN_KEYS = frozenset({"enable_iter_perf_stats", "return_perf_metrics", "backend", "model"})
"""Keys that trtune sets itself, or that name what the plan names."""

_FILE = re.compile(r"(?P<isl>\d+k?)_?(?P<osl>\d+k?)_tp(?P<gpus>\d+)_conc(?P<concurrency>\d+)", re.IGNORECASE)
_THOUSAND = 1024
MOST = 1e12
"""Larger numbers in a list are no lengths, loads or counts."""


def find_recipes(folder: Path) -> tuple[Recipe, ...]:
    """The configurations in a checkout of TensorRT-LLM, or in a folder of it or like it.

    Raises:
        BadConfiguration: If the folder does not exist or holds none, or a list in it is no list.
    """
    if not folder.is_dir():
        raise BadConfiguration(f"{folder} is no folder; give a checkout of TensorRT-LLM or its examples/configs")
    root = folder / CHECKOUT_FOLDER if (folder / CHECKOUT_FOLDER).is_dir() else folder
    listed = [recipe for name in LISTS if (root / name).is_file() for recipe in _listed(root / name)]
    known = {recipe.path for recipe in listed}
    named = [recipe for recipe in _named(root) if recipe.path not in known]
    if not listed and not named:
        raise BadConfiguration(f"{folder} holds no configurations of TensorRT-LLM; give its examples/configs/database")
    return (*listed, *named)


def settings_of(recipe: Recipe, knobs: Sequence[Knob]) -> tuple[dict[str, Value], tuple[str, ...]]:
    """A recipe's settings by knob name, and the names of keys that are no knob of this version.

    Raises:
        BadConfiguration: If its file cannot be read or is no mapping.
    """
    tree = {name: value for name, value in read_settings(recipe.path).items() if name not in OWN_KEYS}
    return flat_settings(knobs, tree)


def _listed(path: Path) -> Iterator[Recipe]:
    for entry in _entries(path):
        file = _file_of(path, entry.get("config_path"))
        model = entry.get("model")
        if file is None or not isinstance(model, str) or entry.get("disagg") is True:
            continue
        yield Recipe(
            model=model,
            gpus=gpu_names(str(entry.get("gpu") or entry.get("gpu_compatibility") or "")),
            path=file,
            isl=_number(entry.get("isl")),
            osl=_number(entry.get("osl")),
            concurrency=_number(entry.get("concurrency")),
            gpu_count=int(_number(entry.get("num_gpus"))),
            label=str(entry.get("profile") or entry.get("scenario") or ""),
        )


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise BadConfiguration(f"{path} is larger than {LARGEST_FILE_BYTES} bytes: it is no list of configurations")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{path} cannot be read as text") from error
    loaded = load_yaml(text, str(path))
    if not isinstance(loaded, list):
        raise BadConfiguration(f"{path} is no list of configurations")
    return [entry for entry in loaded if isinstance(entry, dict)]


def _file_of(list_path: Path, told: object) -> Path | None:
    """A listed file; the list names it from the checkout's root, and must not lead out of the list's own folder."""
    if not isinstance(told, str):
        return None
    parts = Path(told).parts
    anchor = list_path.parent.name
    inner = parts[len(parts) - parts[::-1].index(anchor) :] if anchor in parts else parts
    if ".." in inner or Path(told).is_absolute():
        return None
    file = list_path.parent.joinpath(*inner)
    return file if file.is_file() else None


def _named(root: Path) -> Iterator[Recipe]:
    for path in sorted(root.rglob("*.yaml")):
        match = _FILE.fullmatch(path.stem)
        if match is None:
            continue
        gpu, model = path.parent.name, path.parent.parent.name
        yield Recipe(
            model=model,
            gpus=gpu_names(gpu),
            path=path,
            isl=_length(match["isl"]),
            osl=_length(match["osl"]),
            concurrency=float(match["concurrency"]),
            gpu_count=int(match["gpus"]),
        )


def _length(text: str) -> float:
    return float(text.lower().removesuffix("k")) * (_THOUSAND if text.lower().endswith("k") else 1)


def _number(value: object) -> float:
    """A length, load or count that a list tells; 0, which is «not said», for anything that cannot be one."""
    told = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST
    return float(value) if told and isinstance(value, int | float) else 0.0
