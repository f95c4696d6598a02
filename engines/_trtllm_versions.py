"""Versions of TensorRT-LLM: what a version text means, and the releases at which something changed (contract trtllm 0)."""

from __future__ import annotations

import re

Version = tuple[int, ...]
"""Major, minor, patch, release candidate; shorter ones stand for the beginning of a line."""

NO_CANDIDATE = 10_000
"""In place of a release candidate's number: a release sorts after all of its candidates."""

OLDEST: Version = (1, 0)
V1_1: Version = (1, 1)
V1_2: Version = (1, 2)
V1_3: Version = (1, 3)
TEE: Version = (1, 3, 0, 13)
"""First build whose `/metrics` and Prometheus do not race for the same records (contract 2.3)."""
LATE: Version = (1, 3, 0, 21)
"""The engine backend is gone (contract 6); `/perf_metrics` gave way to response headers."""

LADDER: tuple[str, ...] = ("1.0.0", "1.1.0", "1.2.1", "1.3.0rc12", "1.3.0rc20", "1.3.0rc28")
"""One version of every line whose settings or answers differ."""

_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:rc(\d{1,6}))?")


def parse_version(text: str) -> Version | None:
    """A version, or the tag of an image, as numbers; None when it has none worth believing (such as `0.0.0+unknown`)."""
    match = _VERSION.match(text.partition("@")[0].rpartition(":")[2])
    if match is None:
        return None
    major, minor, patch, candidate = match.groups()
    version = (int(major), int(minor), int(patch or 0), NO_CANDIDATE if candidate is None else int(candidate))
    return version if version >= OLDEST else None


def is_before(version: str, release: Version) -> bool:
    """Whether a version is known and older than a release; an unknown one counts as the newest."""
    line = parse_version(version)
    return line is not None and line < release
