"""Configurations that a server's makers tuned and published, and which of them are nearest to a wish."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_GPU = re.compile(r"(?<![A-Z0-9])((?:GB|GH|RTX ?PRO ?|[ABHLTV])\d{1,4}S?)(?![0-9])", re.IGNORECASE)
_UNKNOWN = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """One published configuration and what it is for.

    Attributes:
        model: Name of the model.
        gpus: Short names of the GPUs it suits, such as `H200`; empty: any.
        path: Its file.
        isl: Prompt length in tokens; 0 when it is not said.
        osl: Output length in tokens; 0 when it is not said.
        concurrency: Requests at once; 0 when it is not said.
        gpu_count: GPUs it uses; 0 when it is not said.
        label: What its makers call it, such as `throughput`.
    """

    model: str
    gpus: frozenset[str]
    path: Path
    isl: float = _UNKNOWN
    osl: float = _UNKNOWN
    concurrency: float = _UNKNOWN
    gpu_count: int = 0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a configuration is wanted for. 0 and empty: not known, and so no reason against a recipe.

    Attributes:
        model: Model name or folder.
        gpu: Product name of the GPU, as the driver reports it.
        gpu_count: GPUs there are.
        isl: Prompt length in tokens.
        osl: Output length in tokens.
        concurrency: Requests at once.
    """

    model: str
    gpu: str = ""
    gpu_count: int = 0
    isl: float = _UNKNOWN
    osl: float = _UNKNOWN
    concurrency: float = _UNKNOWN


def gpu_names(text: str) -> frozenset[str]:
    """Short names of the GPUs in a text: `H200` of `NVIDIA H200`, `H200_SXM` and `h200-sxm`; empty for `Any`."""
    return frozenset(match.upper().replace(" ", "") for match in _GPU.findall(text.replace("_", " ")))


def nearest_recipes(recipes: Iterable[Recipe], wish: Wish) -> list[Recipe]:
    """The recipes for the wished model and GPU that fit on the host, the nearest workload first."""
    gpu = gpu_names(wish.gpu)
    fitting = [
        (order, place, recipe)
        for place, recipe in enumerate(recipes)
        if (order := _order(recipe, wish, gpu)) is not None
    ]
    return [recipe for _, _, recipe in sorted(fitting)]


def _order(recipe: Recipe, wish: Wish, gpu: frozenset[str]) -> tuple[int, float, float] | None:
    kinship = _kinship(recipe.model, wish.model)
    if kinship is None or (gpu and recipe.gpus and not gpu & recipe.gpus):
        return None
    if wish.gpu_count and recipe.gpu_count > wish.gpu_count:
        return None
    lengths = _apart(recipe.isl, wish.isl) + _apart(recipe.osl, wish.osl)
    return kinship, lengths, _apart(recipe.concurrency, wish.concurrency)


def _kinship(model: str, wish: str) -> int | None:
    """0: the same model; 1: the same with another suffix, such as a precision; None: another model."""
    mine, wanted = (re.sub(r"[\W_]+", "-", name.rstrip("/").rpartition("/")[2].lower()) for name in (model, wish))
    if not mine or not wanted:
        return None
    if mine == wanted:
        return 0
    return 1 if mine.startswith(f"{wanted}-") or wanted.startswith(f"{mine}-") else None


def _apart(first: float, second: float) -> float:
    """How many times over two numbers differ, as a logarithm; what is not known is neither near nor far."""
    return abs(math.log(first / second)) if first > 0 and second > 0 else 1.0
