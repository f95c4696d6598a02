"""Where trtune keeps sessions when it is not told."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

from platformdirs import user_data_path

SUFFIX = ".trtune"


def sessions_dir() -> Path:
    """The folder of sessions: `TRTUNE_SESSIONS`, or the user's data folder."""
    told = os.environ.get("TRTUNE_SESSIONS")
    return Path(told).expanduser() if told else user_data_path("trtune") / "sessions"


def new_session_path(name: str) -> Path:
    """A path for a new session that nobody has taken."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "session"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = sessions_dir()
    candidates = (f"{stamp}-{stem}{tail}{SUFFIX}" for tail in ("", *(f"-{number}" for number in range(2, 1000))))
    return next(folder / candidate for candidate in candidates if not (folder / candidate).exists())


def path_text(path: Path) -> str:
    """A path for JSON, which takes no name that is not text: its strange bytes are shown as missing characters."""
    return os.fsencode(path).decode(errors="replace")


def find_session(told: str) -> Path:
    """The session a user means: a path, or the name of one in the sessions folder."""
    path = Path(told).expanduser()
    if path.exists() or path.is_absolute():
        return path
    for candidate in (sessions_dir() / f"{told}{tail}" for tail in ("", SUFFIX, f"{SUFFIX}.xz")):
        if candidate.exists():
            return candidate
    return path


def known_sessions(folder: Path) -> list[Path]:
    """Session files in a folder, newest first; one that goes away meanwhile is none."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]
