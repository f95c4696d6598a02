"""What changed between TensorRT-LLM releases, as far as the dialect imitates it (contract section 0.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

_PATTERN: Final = re.compile(r"^(\d+)\.(\d+)\.(\d+)(?:rc(\d+))?$")
_FINAL: Final = 1_000_000
"""Stands for "no release candidate": sorts after every one of them."""


DEFAULT_VERSION: Final = "1.3.0rc20"
"""Imitated when none is asked for."""


class VersionError(ValueError):
    """A text is not a TensorRT-LLM version."""


@dataclass(frozen=True, slots=True, order=True)
class ServerVersion:
    """A TensorRT-LLM version; release candidates sort before their release."""

    major: int
    minor: int
    patch: int
    candidate: int = _FINAL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``1.2.1`` or ``1.3.0rc20``.

        Raises:
            VersionError: it is neither.
        """
        match = _PATTERN.match(text)
        if match is None:
            raise VersionError(f"{text!r} is not a TensorRT-LLM version: give one like 1.2.1 or 1.3.0rc20")
        major, minor, patch, candidate = match.groups()
        return cls(int(major), int(minor), int(patch), _FINAL if candidate is None else int(candidate))

    def __str__(self) -> str:
        suffix = "" if self.candidate == _FINAL else f"rc{self.candidate}"
        return f"{self.major}.{self.minor}.{self.patch}{suffix}"


V1_1: Final = ServerVersion(1, 1, 0, 0)
"""``/prometheus/metrics``, ``/perf_metrics`` and ``/steady_clock_offset`` appear (pull request 5785)."""

V1_2: Final = ServerVersion(1, 2, 0, 0)
"""``--config``; the background statistics collector that races with ``/metrics``."""

V1_3: Final = ServerVersion(1, 3, 0, 0)
"""Metric prefix and labels, ``/server_info``, ``/energy_metrics``, longer iteration records."""

V1_3_TEE: Final = ServerVersion(1, 3, 0, 13)
"""``/metrics`` is served from a tee buffer (pull request 13405)."""

V1_3_STEP_TIMES: Final = ServerVersion(1, 3, 0, 15)
"""Host and GPU step times in iteration records (pull request 14127)."""

V1_3_CLI_WINS: Final = ServerVersion(1, 3, 0, 17)
"""Explicit command-line flags beat the YAML (pull request 14812)."""

V1_3_LATE: Final = ServerVersion(1, 3, 0, 21)
"""The TensorRT backend is gone; ``/perf_metrics`` gives way to response headers."""

V1_3_SEQUENCE: Final = ServerVersion(1, 3, 0, 28)
"""``statsSequence`` and ``statsDroppedFrames`` in iteration records."""
