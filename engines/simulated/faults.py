"""Faults on demand: what can go wrong with a server, as ``--sim-fault NAME[=ARGUMENT]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class FaultError(ValueError):
    """A fault is unknown or its argument unusable."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Every fault that can be asked for; times count from readiness.

    Attributes:
        oom_at_start: fail the start as if the KV cache did not fit.
        never_ready: load for ever.
        crash_at_s: die without a word, None never.
        hang_at_s: accept connections and answer nothing, None never.
        zombie_at_s: answer ``/health`` with 200 while requests hang, None never.
        stream_cut_tokens: cut every stream after so many tokens, None never.
        slow_metrics_s: delay of every metrics answer.
    """

    oom_at_start: bool = False
    never_ready: bool = False
    crash_at_s: float | None = None
    hang_at_s: float | None = None
    zombie_at_s: float | None = None
    stream_cut_tokens: int | None = None
    slow_metrics_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _FaultKind:
    field: str
    default: float | None
    """Argument when none is given; None means that one is needed."""


_SWITCHES: Final = {"oom-at-start": "oom_at_start", "never-ready": "never_ready"}

_WITH_ARGUMENT: Final = {
    "crash-at": _FaultKind("crash_at_s", None),
    "hang": _FaultKind("hang_at_s", 0.0),
    "zombie-health": _FaultKind("zombie_at_s", 0.0),
    "stream-cut": _FaultKind("stream_cut_tokens", 8),
    "slow-metrics": _FaultKind("slow_metrics_s", 5.0),
}

FAULT_NAMES: Final = tuple(sorted({*_SWITCHES, *_WITH_ARGUMENT}))
"""Every fault by the name it is asked for."""


def parse_faults(texts: Iterable[str]) -> Faults:
    """Read ``crash-at=30``, ``hang``, ``stream-cut=5`` and so on.

    Raises:
        FaultError: a name is unknown, an argument is missing, unwanted or not a number.
    """
    asked: dict[str, Any] = {}
    for text in texts:
        name, given, argument = text.partition("=")
        if name in _SWITCHES:
            if given:
                raise FaultError(f"{name} takes no argument")
            asked[_SWITCHES[name]] = True
            continue
        kind = _WITH_ARGUMENT.get(name)
        if kind is None:
            raise FaultError(f"unknown fault {name!r}: known are {', '.join(FAULT_NAMES)}")
        asked[kind.field] = _argument(name, kind, argument if given else None)
    return Faults(**asked)


def _argument(name: str, kind: _FaultKind, text: str | None) -> float | int:
    if text is None:
        if kind.default is None:
            raise FaultError(f"{name} needs an argument, as in {name}=30")
        value = kind.default
    else:
        try:
            value = float(text.removesuffix("s"))
        except ValueError as error:
            raise FaultError(f"{name}: {text!r} is not a number") from error
        if not 0 <= value < float("inf"):
            raise FaultError(f"{name}: {text!r} must be zero or more")
    return int(value) if kind.field.endswith("_tokens") else value
