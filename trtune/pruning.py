"""Which sessions of a folder may go: by age, by number, by size, or because nothing came of them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessions import faults, holding
from sessions.errors import SessionError
from sessions.packing import packs_in
from sessions.reader import SessionReader
from trtune.errors import UsageError
from trtune.paths import SUFFIX
from tui import notes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT])i?B?", re.IGNORECASE)
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_BESIDE = ("-wal", "-shm", holding.SUFFIX, faults.SUFFIX, notes.SUFFIX)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What may go.

    Attributes:
        older_than_s: Sessions not written to for longer, or None.
        keep: All but so many of the newest, or None.
        max_bytes: The oldest, until all together take no more, or None.
        empty: Sessions without a finished trial.
    """

    older_than_s: float | None = None
    keep: int | None = None
    max_bytes: int | None = None
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A session that may go.

    Attributes:
        path: The file.
        why: For which reason.
        size_bytes: With what lies beside it.
    """

    path: Path
    why: str
    size_bytes: int


def candidates(folder: Path, wishes: Wishes) -> list[Candidate]:
    """Sessions and packs of a folder that may go, oldest first. One that is being written never may, nor another file."""
    paths = sorted(
        (path for path in (*folder.glob(f"*{SUFFIX}"), *packs_in(folder)) if path.is_file() and not path.is_symlink()),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    total_bytes = 0
    chosen = []
    for place, path in enumerate(paths):
        size_bytes = sum(each.stat().st_size for each in _files_of(path))
        total_bytes += size_bytes
        why = _why(path, place, total_bytes, wishes)
        if why and _is_idle_session(path):
            chosen.append(Candidate(path, why, size_bytes))
            total_bytes -= size_bytes
    return chosen[::-1]


def remove(candidate: Candidate) -> None:
    """Delete a session with what lies beside it.

    Raises:
        OSError: If it cannot be deleted.
    """
    for path in _files_of(candidate.path):
        path.unlink(missing_ok=True)


def parse_duration_s(text: str) -> float:
    """Seconds from `30d`, `12h`, `2w`.

    Raises:
        UsageError: If it is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no duration; write for example 30d, 12h or 2w")
    return float(match["number"]) * _SECONDS[match["unit"]]


def parse_size_bytes(text: str) -> int:
    """Bytes from `10G`, `500M`.

    Raises:
        UsageError: If it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size; write for example 500M or 10G")
    return round(float(match["number"]) * _BYTES[match["unit"].upper()])


def _why(path: Path, place: int, total_bytes: int, wishes: Wishes) -> str:
    age_s = time.time() - path.stat().st_mtime
    if wishes.older_than_s is not None and age_s > wishes.older_than_s:
        return f"{age_s / 86_400:.0f} days old"
    if wishes.keep is not None and place >= wishes.keep:
        return f"not among the newest {wishes.keep}"
    if wishes.max_bytes is not None and total_bytes > wishes.max_bytes:
        return "over the size"
    return "no finished trial" if wishes.empty and _is_empty(path) else ""


def _is_empty(path: Path) -> bool:
    try:
        with SessionReader(path) as reader:
            return not any(trial.end_ns is not None for trial in reader.trials())
    except SessionError:
        return False


def _is_idle_session(path: Path) -> bool:
    """Whether it is a session of ours (a pack counts) that nobody writes."""
    if path.suffix != SUFFIX:
        return True
    try:
        SessionReader(path).close()
        return not holding.is_written(path)
    except SessionError:
        return False


def _files_of(path: Path) -> Iterator[Path]:
    yield path
    for suffix in _BESIDE:
        beside = path.with_name(path.name + suffix)
        if beside.is_file():
            yield beside
