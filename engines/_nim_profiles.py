"""Profiles of a NIM image: what `list-model-profiles` prints, read (contract nim 4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable


Fit = Literal["runnable", "low memory", "incompatible"]

_HEADINGS: tuple[tuple[str, Fit], ...] = (
    ("incompatible with system", "incompatible"),
    ("compatible with system but", "low memory"),
    ("compatible with system and runnable", "runnable"),
    ("compilable to trt-llm", "runnable"),
)
"""Part of a group's heading in lower case and what it means, most telling first.

Profiles of 1.x that are compiled here are built at the start, for minutes, and then serve as the others do.
"""

_ENTRY = re.compile(r"\b([0-9a-f]{64})\b(?:\s*\(([^)]*)\))?")
_NAME = re.compile(r"(?P<backend>[a-z]+(?:_llm)?)-.*?(?P<precision>bf16|fp16|fp8|mxfp4|nvfp4|int\w+)\b")
_SIZE = re.compile(r"-(tp|pp)(\d+)\b")
_NEED = re.compile(r"requires >=\s*(\d+(?:\.\d+)?) GB/gpu")


@dataclass(frozen=True, slots=True)
class NimProfile:
    """One profile.

    Attributes:
        id: 64 hexadecimal characters, the value of `NIM_MODEL_PROFILE`.
        name: Its name, such as `vllm-fp8-tp2-pp1`.
        fit: Whether this host can run it.
        lora: Whether it is for LoRA adapters.
        backend: `tensorrt_llm`, `vllm` or `sglang`; empty when the name does not tell.
        precision: Such as `fp8`; empty when the name does not tell.
        tensor_parallel: GPUs that share each layer.
        pipeline_parallel: Stages.
        needs_gb: Memory it needs on each GPU, in GB; 0 when it is not said.
    """

    id: str
    name: str
    fit: Fit
    lora: bool = False
    backend: str = ""
    precision: str = ""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    needs_gb: float = 0.0


def parse_profiles(lines: Iterable[str]) -> tuple[NimProfile, ...]:
    """The profiles in what `list-model-profiles` printed, by its headings and ids; other lines are passed over."""
    found: dict[str, NimProfile] = {}
    fit: Fit | None = None
    in_lora = False
    for line in lines:
        entry = _ENTRY.search(line)
        if entry is None:
            fit, in_lora = _heading(line, fit, in_lora)
        elif fit is not None:
            found.setdefault(entry[1], _profile(entry[1], entry[2] or "", fit, in_lora, line))
    return tuple(found.values())


def runnable(profiles: Iterable[NimProfile]) -> tuple[NimProfile, ...]:
    """The profiles worth a trial: those this host can run, without those for LoRA."""
    return tuple(profile for profile in profiles if profile.fit == "runnable" and not profile.lora)


def _heading(line: str, fit: Fit | None, in_lora: bool) -> tuple[Fit | None, bool]:
    """The group a line opens; the one before goes on when it opens none."""
    text = line.lower()
    for words, meaning in _HEADINGS:
        if words in text:
            return meaning, False
    return fit, in_lora or "with lora support" in text


def _profile(profile_id: str, name: str, fit: Fit, in_lora: bool, line: str) -> NimProfile:
    parts = _NAME.match(name)
    sizes = {kind: int(size) for kind, size in _SIZE.findall(name) if len(size) < 5}
    need = _NEED.search(line)
    return NimProfile(
        id=profile_id,
        name=name,
        fit=fit,
        lora=in_lora or "lora" in name,
        backend=parts["backend"] if parts else "",
        precision=parts["precision"] if parts else "",
        tensor_parallel=sizes.get("tp", 1),
        pipeline_parallel=sizes.get("pp", 1),
        needs_gb=float(need[1]) if need else 0.0,
    )
